//! `cancel`: of an evaluation, or of one run.

use super::Context;
use crate::{args::CancelArgs, error::Error, tables};

/// Cancels whatever the id names.
pub(super) async fn cancel(context: &Context, args: &CancelArgs) -> Result<(), Error> {
    let api = context.api()?;
    let wrong = || {
        Error::Usage(format!(
            "{:?} is no id; `assay list` and `assay show` print them",
            args.id
        ))
    };
    let evaluation = args.id.parse().map_err(|_| wrong())?;
    match api.cancel_evaluation(evaluation).await {
        Ok(evaluation) if context.screen.json => context.screen.document(&evaluation),
        Ok(evaluation) => context.screen.line(format!(
            "evaluation {} is cancelled; {} runs still end, within 10 s",
            evaluation.id, evaluation.runs.running
        )),
        Err(error) if is_unknown(&error) => {
            let run = api.cancel_run(args.id.parse().map_err(|_| wrong())?).await?;
            if context.screen.json {
                return context.screen.document(&run);
            }
            context.screen.line(format!(
                "run {} is cancelled (state {})",
                run.id,
                tables::state(&run)
            ))
        }
        Err(error) => Err(error),
    }
}

fn is_unknown(error: &Error) -> bool {
    use assay_runtime::client;
    matches!(error, Error::Api(inner)
        if matches!(&inner.0, client::Error::Problem { status, .. } if *status == http::StatusCode::NOT_FOUND))
}
