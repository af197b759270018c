//! Tokens of machines.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use weft_control_api::v1::{self, tokens_client::TokensClient};

use super::{
    Output,
    call::{Connection, answer},
    environment::name,
    member::{EnvironmentRole, environment_role},
    session::{Proof, word},
    show::{Item, Shown},
};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; prints it, once
    Create(Create),
    /// List tokens that are good: your own, all of them for admins
    List {
        /// Its id, or ORGANISATION/NAME
        environment: String,
        #[command(flatten)]
        output: Output,
    },
    /// Make a token good for nothing
    Revoke {
        /// Its id, or ORGANISATION/NAME
        environment: String,
        /// The token, tok-…
        id: String,
        /// Only show which token that is
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its id, or ORGANISATION/NAME
    environment: String,
    /// What it is for, in words
    #[arg(long)]
    name: String,
    /// As what it acts; no more than you are there at the time
    #[arg(long)]
    role: EnvironmentRole,
    /// How long it is good, seconds
    #[arg(long, default_value_t = 7_776_000)]
    seconds: u32,
    /// With which part of the platform alone it is good; may be said several times
    #[arg(long = "use", value_name = "PART")]
    uses: Vec<Use>,
    #[command(flatten)]
    proof: Proof,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Use {
    /// The control API
    Api,
    /// Where TLS of environments ends
    Edge,
    /// Where pushes are taken
    Git,
    /// Where images are kept
    Registry,
}

impl Use {
    fn message(self) -> v1::TokenUse {
        match self {
            Self::Api => v1::TokenUse::Api,
            Self::Edge => v1::TokenUse::Edge,
            Self::Git => v1::TokenUse::Git,
            Self::Registry => v1::TokenUse::Registry,
        }
    }
}

impl TokenCommand {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Create(Create { output, .. })
            | Self::List { output, .. }
            | Self::Revoke { output, .. } => *output,
        }
    }
}

fn item(token: v1::Token) -> Item {
    let role = environment_role(token.role());
    let uses: Vec<String> =
        token.uses().map(|used| word(used.as_str_name(), "TOKEN_USE_")).collect();
    Item::new()
        .with("id", token.id)
        .with("name", token.name)
        .with("role", role)
        .with("uses", uses)
        .with("created_by", token.created_by)
        .with("expires_ms", token.expires_ms)
        .with_some("used_ms", token.used_ms)
}

pub(super) async fn run(connection: Connection, command: TokenCommand) -> Result<Shown> {
    let mut tokens = TokensClient::new(connection.channel());
    match command {
        TokenCommand::Create(create) => {
            let (password, code) = create.proof.show()?;
            let request = v1::CreateTokenRequest {
                environment: name(create.environment),
                name: create.name,
                role: create.role.message().into(),
                seconds: create.seconds,
                uses: create.uses.into_iter().map(|used| used.message().into()).collect(),
                password,
                code,
            };
            let made = answer(tokens.create_token(connection.request(request)).await)?;
            let item = item(made.token.unwrap_or_default()).with("secret", made.secret.as_str());
            Ok(Shown::Done(made.secret, item))
        }
        TokenCommand::List { environment, .. } => {
            let listed = list(&connection, &environment).await?;
            Ok(Shown::Many { items: listed.into_iter().map(item).collect(), empty: "no tokens" })
        }
        TokenCommand::Revoke { environment, id, dry_run: true, .. } => {
            let listed = list(&connection, &environment).await?;
            let found = listed.into_iter().find(|token| token.id == id);
            let found = found.context("no such token")?;
            let role = environment_role(found.role());
            let sentence = format!(
                "token {id} ({}), which is {role} there, would be good for nothing",
                found.name
            );
            Ok(Shown::Done(sentence, item(found)))
        }
        TokenCommand::Revoke { environment, id, .. } => {
            let item = Item::new().with("id", id.as_str());
            let sentence = format!("token {id} is good for nothing");
            let request = v1::RevokeTokenRequest { environment: name(environment), id };
            answer(tokens.revoke_token(connection.request(request)).await)?;
            Ok(Shown::Done(sentence, item))
        }
    }
}

async fn list(connection: &Connection, environment: &str) -> Result<Vec<v1::Token>> {
    let mut tokens = TokensClient::new(connection.channel());
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = Some(v1::PageRequest { size: 0, after });
        let environment = name(environment.to_owned());
        let request = v1::ListTokensRequest { environment, page };
        let listed = answer(tokens.list_tokens(connection.request(request)).await)?;
        all.extend(listed.tokens);
        after = listed.page.unwrap_or_default().next;
        if after.is_empty() {
            return Ok(all);
        }
    }
}
