//! `rushes profile`: where a running service's CPU time goes, as a flame graph.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::{flame, json, out};

/// How many functions are listed.
const LISTED: usize = 20;
/// How long the answer may take beyond the time that is looked at: names are looked up in the program's file.
const GRACE: Duration = Duration::from_secs(60);

/// Looks at what a service does.
#[derive(Debug, clap::Args)]
pub struct Profile {
    /// A service of the local stack, or the address of a service's admin port, http://….
    #[arg(value_name = "SERVICE")]
    of: String,
    /// For how many seconds, from 1 to 60.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Where the flame graph is written, an SVG that a browser shows.
    #[arg(long, value_name = "FILE", default_value = "profile.svg")]
    output: PathBuf,
}

impl Profile {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let admin = self.admin(session)?;
        if !session.json() {
            out::warn(format_args!("looking at {} for {} s", self.of, self.seconds));
        }
        let asked = tokio::time::timeout(Duration::from_secs(self.seconds) + GRACE, ask(&admin, self.seconds));
        let (status, body) = match asked.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(&admin, &format!("{error:#}"))),
            Err(_) => return Err(unreachable(&admin, "it does not answer")),
        };
        if status != StatusCode::OK {
            let said = format!("{} takes no profile: {}", self.of, body.trim());
            let exit = if status == StatusCode::CONFLICT { Exit::Refused } else { Exit::Failed };
            return Err(Failure::new(said).exit(exit).into());
        }
        let profile = flame::Profile::parse(&body).with_context(|| format!("what {admin} answers is no profile"))?;
        let title = format!("{}: CPU time of {} s, {} samples", self.of, self.seconds, profile.seen());
        std::fs::write(&self.output, profile.svg(&title))
            .with_context(|| format!("writing {}", self.output.display()))?;
        let functions = profile.functions();
        if session.json() {
            json::print_value(&serde_json::json!({
                "samples": profile.seen(), "seconds": self.seconds, "flame_graph": self.output, "functions": functions,
            }))?;
            return Ok(Exit::Done);
        }
        let part = |count: u64| count as f64 * 100.0 / profile.seen().max(1) as f64;
        let mut text = format!("{title}\n   own    all\n");
        for function in functions.iter().take(LISTED) {
            text.push_str(&format!("{:5.1} % {:5.1} %  {}\n", part(function.own), part(function.all), function.name));
        }
        out::print(format_args!("{text}the flame graph is {}\n", self.output.display()))?;
        Ok(Exit::Done)
    }

    /// The address of the admin port.
    fn admin(&self, session: &Session) -> Result<Uri> {
        let known = session.stack().map(|stack| &stack.admin);
        let address = match known.and_then(|admin| admin.get(&self.of)) {
            Some(address) => address,
            None if self.of.starts_with("http://") => &self.of,
            None => {
                let names = known.map(|admin| admin.keys().cloned().collect::<Vec<_>>().join(", "));
                let todo = match names {
                    Some(names) => format!("name one of {names}, or the address of an admin port, http://…"),
                    None => "no local stack runs in this directory or one above; name the address of an admin port, http://…".to_owned(),
                };
                let error = Failure::new(format!("no service is called {}", self.of));
                return Err(error.todo(todo).exit(Exit::NotFound).into());
            }
        };
        let uri: Result<Uri, _> = address.parse();
        let uri = uri.ok().filter(|uri| uri.authority().is_some());
        let wrong =
            || Failure::new(format!("{address} is no address")).todo("write it as http://host:port").exit(Exit::Usage);
        uri.ok_or_else(|| wrong().into())
    }
}

async fn ask(admin: &Uri, seconds: u64) -> Result<(StatusCode, String)> {
    let (host, port) = (admin.host().unwrap_or_default(), admin.port_u16().unwrap_or(80));
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(format!("/profile?seconds={seconds}"))
        .header(HOST, admin.authority().map_or("", |authority| authority.as_str()))
        .body(Empty::<Bytes>::new())?;
    // It ends with `sender`.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unreachable(admin: &Uri, why: &str) -> anyhow::Error {
    Failure::new(format!("the admin port at {admin} is not reached: {why}")).exit(Exit::Unreachable).into()
}
