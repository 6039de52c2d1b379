//! What an attack is compared with: as much processor time, burnt without asking anybody for anything.

use std::time::{Duration, Instant};

/// How long one burner works and rests before it counts again.
const ROUND: Duration = Duration::from_millis(10);

/// Burns about `amount` of processor time in `lasting`, on as many threads as the machine has cores.
pub(super) async fn burn(amount: Duration, lasting: Duration) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = (amount.as_secs_f64() / lasting.as_secs_f64() / cores as f64).clamp(0.0, 1.0);
    let until = Instant::now() + lasting;
    let burner = move || {
        while Instant::now() < until {
            let busy = Instant::now() + ROUND.mul_f64(share);
            while Instant::now() < busy {
                std::hint::spin_loop();
            }
            std::thread::sleep(ROUND.mul_f64(1.0 - share));
        }
    };
    let burners = (0..cores).map(|_| tokio::task::spawn_blocking(burner)).collect::<Vec<_>>();
    for burner in burners {
        // A burner cannot panic.
        let _ = burner.await;
    }
}
