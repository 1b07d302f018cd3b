//! One module per command.

mod agent;
mod audit;
mod cancel;
mod check;
mod doctor;
mod get;
mod key;
mod list;
mod logs;
mod objects;
mod policy;
mod replay;
mod submit;
mod task;
mod tested;
mod trajectory;
mod why;

use crate::{
    api::Api,
    args::{AgentCommand, AuditCommand, Cli, Command, KeyCommand, PolicyCommand, TaskCommand},
    error::Error,
    profile::{Places, Profile},
    screen::Screen,
    up,
};

/// What every command is given.
#[derive(Debug)]
pub struct Context {
    /// Options of every command.
    pub global: crate::args::Global,
    /// Folders of this user.
    pub places: Places,
    /// Where results go.
    pub screen: Screen,
}

impl Context {
    /// The API of the profile.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn api(&self) -> Result<Api, Error> {
        Ok(Api::new(Profile::load(&self.global, &self.places)?))
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// Whatever stopped the command; its exit code is [`Error::exit_code`].
pub async fn run(cli: Cli) -> Result<(), Error> {
    let places = Places::of(&cli.global, nix::unistd::geteuid().is_root())?;
    let screen = Screen::new(cli.global.json);
    let global = cli.global;
    let context = Context {
        global,
        places,
        screen,
    };
    match cli.command {
        Command::Up(args) => up::up(&context, *args).await,
        Command::Down(args) => up::down(&context, &args).await,
        Command::Run(args) => submit::run(&context, &args.submit).await,
        Command::Submit(args) => submit::submit(&context, &args).await,
        Command::List(args) => list::list(&context, &args).await,
        Command::Show(args) => list::show(&context, args.evaluation).await,
        Command::Watch(args) => submit::watch(&context, args.evaluation).await,
        Command::Logs(args) => logs::logs(&context, &args).await,
        Command::Why(args) => why::why(&context, args.run).await,
        Command::Cancel(args) => cancel::cancel(&context, &args).await,
        Command::Get(args) => get::get(&context, &args).await,
        Command::Task(TaskCommand::Check(args)) => check::check(&context, &args).await,
        Command::Task(TaskCommand::Init(args)) => task::init(&context, &args),
        Command::Agent(AgentCommand::Check(args)) => agent::check(&context, &args),
        Command::Agent(AgentCommand::Init(args)) => agent::init(&context, &args),
        Command::Policy(PolicyCommand::Check(args)) => policy::check(&context, &args),
        Command::Audit(AuditCommand::Verify(args)) => audit::verify(&context, &args).await,
        Command::Key(KeyCommand::Create(args)) => key::create(&context, &args).await,
        Command::Key(KeyCommand::Revoke(args)) => key::revoke(&context, &args).await,
        Command::Login(args) => key::login(&context, &args).await,
        Command::Doctor(args) => doctor::doctor(&context, &args).await,
        Command::Objects(args) => objects::serve(&args).await,
    }
}
