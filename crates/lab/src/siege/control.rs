//! What an attack is compared with: as much processor time, burnt without asking anybody for anything.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::machine::Machine;
use super::memory::Burnt;

/// How long one burner works and rests before it counts again.
const ROUND: Duration = Duration::from_millis(10);

/// Burns about `amount` in `lasting`, on as many threads as the machine has cores: what all servers burnt more than for the good client
/// alone, and what the attacker did on its own machine.
pub(super) async fn burn(amount: Burnt, lasting: Duration, machine: &Machine) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let until = Instant::now() + lasting;
    let burner = |amount: Duration| {
        let share = (amount.as_secs_f64() / lasting.as_secs_f64() / cores as f64).clamp(0.0, 1.0);
        move || {
            while Instant::now() < until {
                let busy = Instant::now() + ROUND.mul_f64(share);
                while Instant::now() < busy {
                    std::hint::spin_loop();
                }
                std::thread::sleep(ROUND.mul_f64(1.0 - share));
            }
        }
    };
    let servers = (0..cores).map(|_| tokio::task::spawn_blocking(burner(amount.started))).collect::<Vec<_>>();
    join_all((0..cores).map(|_| machine.block(burner(amount.own)))).await;
    // A burner cannot panic.
    let _ = join_all(servers).await;
}
