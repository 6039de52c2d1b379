//! PostgreSQL behind a pooler, and what a start says of a database that cannot be used. Tests that need PgBouncer say so and end
//! where it is not installed.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chassis::postgres::{Error, Pool, PoolSettings, check};
use sqlx::PgConnection;
use testkit::Database;
use url::Url;

/// A PgBouncer before a database; it ends when it is dropped.
struct Pooler {
    child: Child,
    folder: std::path::PathBuf,
    url: String,
}

impl Pooler {
    /// `None` where there is no PgBouncer. Its settings are the defaults but for the mode and the way to the database.
    async fn before(database: &Database, mode: &str) -> Option<Self> {
        if Command::new("pgbouncer").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: there is no pgbouncer on this machine (apt-get install pgbouncer)");
            return None;
        }
        let mut url = Url::parse(&database.url()).unwrap();
        let port = testkit::free_port();
        let server = format!("host={} port={}", url.host_str().unwrap(), url.port().unwrap());
        let password = url.password().map(|password| format!(" password={password}")).unwrap_or_default();
        let config = format!(
            "[databases]\n* = {server} user={}{password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = {mode}\nunix_socket_dir =\n",
            url.username()
        );
        let folder = std::env::temp_dir().join(format!("rushes-pooler-{:016x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("pgbouncer");
        // It refuses to run as root.
        if nobody_else() {
            command.args(["-u", "nobody"]);
        }
        let child = command.arg("-q").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        url.set_port(Some(port)).unwrap();
        let pooler = Self { child, folder, url: url.to_string() };
        let up = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok();
        testkit::eventually("pgbouncer listens", Duration::from_secs(10), up).await.unwrap();
        Some(pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn nobody_else() -> bool {
    let uid = Command::new("id").arg("-u").output().unwrap().stdout;
    String::from_utf8_lossy(&uid).trim() == "0"
}

fn pool(url: &str, statement: Duration) -> Pool {
    let settings = PoolSettings {
        min: 0,
        max: 2,
        statement,
        unresponsive_after: Duration::from_secs(1),
        ..PoolSettings::default()
    };
    Pool::connect_lazy("test", url, &settings).unwrap()
}

#[tokio::test]
async fn a_pooler_in_session_mode_is_as_good_as_postgresql() {
    let database = Database::fresh().await.unwrap();
    let Some(pooler) = Pooler::before(&database, "session").await else { return };
    check(&pooler.url).await.unwrap();
    let pool = pool(&pooler.url, Duration::from_millis(300));
    for number in 0..5_i32 {
        let echo = async |connection: &mut PgConnection| {
            sqlx::query_scalar::<_, i32>("select $1").bind(number).fetch_one(connection).await
        };
        assert_eq!(pool.run("echo", echo).await.unwrap(), number);
    }
    // The limit that a pooler would drop at the start of a connection holds.
    let sleep =
        async |connection: &mut PgConnection| sqlx::query("select pg_sleep(5)").execute(connection).await.map(drop);
    let error = pool.run("sleep", sleep).await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_in_one_sentence() {
    let database = Database::fresh().await.unwrap();
    for mode in ["transaction", "statement"] {
        let Some(pooler) = Pooler::before(&database, mode).await else { return };
        let sentence = check(&pooler.url).await.unwrap_err().to_string();
        assert!(
            sentence.starts_with("RUSHES_DATABASE_URL should be") && sentence.contains("pool_mode = session"),
            "{sentence}"
        );
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_in_one_sentence() {
    let database = Database::fresh().await.unwrap();
    check(&database.url()).await.unwrap();
    for (end, part) in [("_gone", "database that the server knows"), ("?sslmode=require", "TLS")] {
        let sentence = check(&format!("{}{end}", database.url())).await.unwrap_err().to_string();
        assert!(sentence.starts_with("RUSHES_DATABASE_URL should be") && sentence.contains(part), "{sentence}");
    }
    // One that is not there yet is waited for while the service runs.
    check(&format!("postgres://rushes@127.0.0.1:{}/rushes", testkit::free_port())).await.unwrap();
}
