//! Lanes.
use chassis::postgres::{Error, Lane, statement};
use sqlx::PgConnection;

fn sendable<T: Send>(t: T) -> T {
    t
}

struct Store {
    lane: Lane,
}
impl Store {
    async fn get(&self, account: uuid::Uuid, title: &str) -> Result<Vec<(i64, String)>, Error> {
        self.lane
            .run("get_project", async |conn: &mut PgConnection| {
                sqlx::query_as::<_, (i64, String)>("select 1::bigint, $2 from x where account = $1")
                    .bind(account)
                    .bind(title)
                    .fetch_all(&mut *conn)
                    .await
            })
            .await
    }
    async fn two(&self, title: String) -> Result<u64, Error> {
        self.lane
            .transaction("create_project", async |tx: &mut PgConnection| {
                statement("one", sqlx::query("select 1").bind(&title).execute(&mut *tx)).await?;
                let n = statement("two", sqlx::query("select 1").execute(&mut *tx)).await?;
                Ok::<_, Error>(n.rows_affected())
            })
            .await
    }
}

#[tokio::test]
async fn futures_can_be_sent() {
    let lane = Lane::connect_lazy("read", "postgres://x@127.0.0.1:1/x", &Default::default()).unwrap();
    let store = Store { lane };
    let handle = tokio::spawn(async move {
        let a = sendable(store.get(uuid::Uuid::nil(), "x")).await;
        let b = sendable(store.two("x".into())).await;
        (a.is_err(), b.is_err())
    });
    assert_eq!(handle.await.unwrap(), (true, true));
}
