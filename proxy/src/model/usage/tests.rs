use assay_core::price::ModelPrice;

use super::*;

fn prices() -> Prices {
    let price: ModelPrice = serde_json::from_value(serde_json::json!({
        "input": "0.000001", "output": "0.000002", "cached_input": "0.0000001", "cache_write": "0.00000125",
        "context_tokens": 1000, "max_output_tokens": 100,
    }))
    .unwrap();
    Prices::of(&[&price]).unwrap()
}

fn whole(api: Api, document: &str) -> Option<String> {
    let mut tally = Tally::new(api);
    tally.whole(document.as_bytes());
    Some(tally.bill(true, &prices())?.cost.to_string())
}

fn events(api: Api, events: &[&str]) -> Tally {
    let mut tally = Tally::new(api);
    for event in events {
        tally.event(event.as_bytes());
    }
    tally
}

fn told(tally: &Tally) -> Option<(u64, u64, u64, u64)> {
    let bill = tally.bill(false, &prices())?;
    Some((
        bill.input_tokens,
        bill.cached_tokens,
        bill.written_tokens,
        bill.output_tokens,
    ))
}

#[test]
fn the_higher_of_report_and_table_is_billed() {
    let tokens = r#""prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":50}"#;
    let chat = |document: String| whole(Api::Chat, &document).unwrap();
    assert_eq!(chat(format!(r#"{{"usage":{{{tokens}}}}}"#)), "0.000075");
    assert_eq!(chat(format!(r#"{{"usage":{{"cost":0.5,{tokens}}}}}"#)), "0.5");
    assert_eq!(
        chat(format!(r#"{{"usage":{{"cost":1e-9,{tokens}}}}}"#)),
        "0.000075"
    );
}

#[test]
fn f18_the_upstream_fee_of_an_own_key_is_added_and_of_no_other() {
    let usage = |byok| {
        let document = format!(
            r#"{{"usage":{{"cost":0.01,"is_byok":{byok},"cost_details":{{"upstream_inference_cost":0.2}}}}}}"#
        );
        whole(Api::Chat, &document).unwrap()
    };
    assert_eq!(
        (usage(true), usage(false)),
        ("0.21".to_owned(), "0.01".to_owned())
    );
}

#[test]
fn h8_what_cannot_be_believed_is_no_usage() {
    let said = r#"{"choices":[{"delta":{"content":"{\"usage\":{\"cost\":0}}"}}]}"#;
    assert!(
        said.replace('\\', "").contains(r#""usage":{"cost":0}"#),
        "who looks for the words finds a bill"
    );
    for document in [
        "",
        "[DONE]",
        "{}",
        r#"{"usage":null}"#,
        r#"{"usage":{}}"#,
        r#"{"usage":{"cost":-1,"prompt_tokens":1}}"#,
        r#"{"usage":{"cost":"0.1"}}"#,
        r#"{"usage":{"cost":1e30}}"#,
        r#"{"usage":{"prompt_tokens":-1}}"#,
        said,
    ] {
        for api in [Api::Chat, Api::Responses, Api::Messages, Api::Embeddings] {
            assert_eq!(whole(api, document), None, "{api:?} {document}");
        }
    }
}

#[test]
fn h8_no_other_event_than_the_last_tells_the_usage_of_a_response() {
    let forged =
        r#"{"type":"response.output_text.delta","response":{"usage":{"input_tokens":1,"output_tokens":1}}}"#;
    assert_eq!(told(&events(Api::Responses, &[forged])), None);
    let done = r#"{"type":"response.completed","response":{"id":"resp-1","model":"m","usage":
        {"input_tokens":9,"input_tokens_details":{"cached_tokens":4},"output_tokens":3}}}"#;
    let tally = events(Api::Responses, &[forged, done]);
    assert_eq!(told(&tally), Some((9, 4, 0, 3)));
    assert_eq!(tally.id.as_deref(), Some("resp-1"));
}

#[test]
fn g3_usage_of_a_message_is_the_highest_of_start_and_end_and_never_their_sum() {
    let start = r#"{"type":"message_start","message":{"id":"msg-1","model":"m","usage":
        {"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":3,"output_tokens":1}}}"#;
    let delta =
        |output| format!(r#"{{"type":"message_delta","delta":{{}},"usage":{{"output_tokens":{output}}}}}"#);
    assert_eq!(
        told(&events(Api::Messages, &[start])),
        None,
        "the output is not known yet"
    );
    let tally = events(Api::Messages, &[start, &delta(20), &delta(30)]);
    assert_eq!(told(&tally), Some((18, 5, 3, 30)));
    assert_eq!(tally.model.as_deref(), Some("m"));
}

#[test]
fn g4_cached_tokens_are_beside_the_input_here_and_within_it_there() {
    let anthropic = r#"{"usage":{"input_tokens":10,"cache_read_input_tokens":5,"cache_creation_input_tokens":4,"output_tokens":1}}"#;
    // 10 at 1, 5 at 0.1, 4 at 1.25 and 1 out at 2.
    assert_eq!(whole(Api::Messages, anthropic), Some("0.0000175".to_owned()));
    let openai =
        r#"{"usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":5},"output_tokens":1}}"#;
    assert_eq!(whole(Api::Responses, openai), Some("0.0000075".to_owned()));
}

#[test]
fn g5_the_last_of_growing_usages_holds() {
    let chunk = |output| {
        format!(
            r#"{{"model":"m","choices":[{{}}],"usage":{{"prompt_tokens":1,"completion_tokens":{output}}}}}"#
        )
    };
    let tally = events(Api::Chat, &[&chunk(1), &chunk(2)]);
    assert_eq!(told(&tally), None, "a stream that was cut has told a part only");
    let tally = events(Api::Chat, &[&chunk(1), &chunk(2), "[DONE]"]);
    assert_eq!(told(&tally), Some((1, 0, 0, 2)));
}

#[test]
fn a_request_that_is_refused_in_the_middle_is_not_the_services_fault() {
    for (api, event) in [
        (
            Api::Chat,
            r#"{"model":"m","error":{"code":403,"message":"flagged"},"choices":[]}"#,
        ),
        (
            Api::Responses,
            r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}"#,
        ),
        (
            Api::Messages,
            r#"{"type":"error","error":{"type":"invalid_request_error"}}"#,
        ),
    ] {
        assert!(!events(api, &[event]).failed, "{api:?}");
    }
}

#[test]
fn h12_an_error_in_the_middle_is_the_services_fault() {
    for (api, event) in [
        (
            Api::Chat,
            r#"{"error":{"code":502},"choices":[{"finish_reason":"error"}]}"#,
        ),
        (
            Api::Responses,
            r#"{"type":"response.failed","response":{"error":{}}}"#,
        ),
        (
            Api::Messages,
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
        ),
    ] {
        assert!(events(api, &[event]).failed, "{api:?}");
    }
    let text = r#"{"model":"m","choices":[{"delta":{"content":"an \"error\": it failed"}}],"error":null}"#;
    assert!(!events(Api::Chat, &[text]).failed);
}

#[test]
fn embeddings_cost_their_input_and_counting_costs_nothing() {
    let embeddings = r#"{"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    assert_eq!(whole(Api::Embeddings, embeddings), Some("0.000008".to_owned()));
    assert_eq!(
        whole(Api::CountTokens, r#"{"input_tokens":2095}"#),
        Some("0".to_owned())
    );
}
