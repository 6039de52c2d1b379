//! A certificate for servers on loopback, signed by an authority of its own, made by the `openssl` of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binary;
use crate::home::Home;
use crate::server::blocking;

/// A new key on a curve that every TLS library takes.
const NEW_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

/// A certificate of 127.0.0.1, its key, and the authority that signed it; the files go with it.
pub struct Certificate {
    home: Home,
}

impl Certificate {
    /// Makes one. `None`, and a line that says so, where there is no openssl on the machine.
    pub async fn make() -> Result<Option<Self>> {
        let program = match binary::find("openssl") {
            Ok(program) => program,
            Err(missing) => {
                eprintln!("skipped: {missing}");
                return Ok(None);
            }
        };
        blocking(move || {
            let home = Home::temporary("certificate", None)?;
            let folder = home.path();
            let names = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n";
            fs::write(folder.join("names"), names).context("writing the names of a certificate")?;
            let run = |arguments: &[&str]| run(&program, folder, arguments);
            let authority = ["-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca.test"];
            run(&[&["req", "-x509"], &NEW_KEY[..], &authority].concat())?;
            let server = ["-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"];
            run(&[&["req"], &NEW_KEY[..], &server].concat())?;
            run(&[
                "x509",
                "-req",
                "-in",
                "server.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-out",
                "server.pem",
                "-days",
                "2",
                "-extfile",
                "names",
            ])?;
            Ok(Some(Self { home }))
        })
        .await
    }

    /// The authority's certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// The server's certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.home.path().join("server.pem")
    }

    /// The server's key, in PEM.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.home.path().join("server.key")
    }
}

fn run(program: &Path, folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().context("running openssl")?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
