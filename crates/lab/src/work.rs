//! Durable work put to the test on real processes: `sweep` aborts one at each crash point, `nemesis` kills all at random.
//!
//! `provider` is the simulated provider beside the stage, `customer` who orders through the gateway, `rescue` how soon a dead
//! worker's jobs are back, `audit` the join of the bill with the books. Invariant: what is checked is what others hold: the
//! provider's bill, the database, and what the gateway answers.

mod audit;
mod customer;
pub mod nemesis;
mod points;
mod provider;
mod rescue;
pub mod sweep;
mod told;
