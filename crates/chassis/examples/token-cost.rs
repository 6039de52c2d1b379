//! What a token between the services costs a call: `cargo run --release -p rushes-chassis --example token-cost`.

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use chassis::identity::{By, Identities, Identity};
use chassis::keyring::InternalKeys;
use uuid::Uuid;

const ROUNDS: u32 = 200_000;

fn measure(what: &str, work: impl Fn()) {
    let began = Instant::now();
    (0..ROUNDS).for_each(|_| work());
    println!("{what}: {} ns", began.elapsed().as_nanos() / u128::from(ROUNDS));
}

fn main() -> Result<()> {
    let ours = Identities::new(&InternalKeys::parse("0123456789abcdef0123456789abcdef").context("the keys")?);
    let by = By::Key { id: Uuid::from_u128(9), scopes: "read" };
    let identity = Identity { account: Some(Uuid::from_u128(7)), by };
    let token = ours.sign(&identity, "generation-status");
    println!("{} bytes", token.len());
    measure("sign", || drop(black_box(ours.sign(&identity, "generation-status"))));
    measure("verify", || {
        let _ = black_box(ours.verify(&token, "generation-status", SystemTime::now()));
    });
    Ok(())
}
