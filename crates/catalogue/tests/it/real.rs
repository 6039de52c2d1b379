//! What a model tells of itself, for every published document: whoever orders by that is never refused, and all else is.

use fastrand::Rng;

use crate::properties::{assert_in_order, assert_reachable, assert_refuses};
use crate::{conformance, lines, random, resolve};

#[test]
fn every_published_document_takes_what_its_model_says_and_no_more() {
    // Where the documents are not at hand, this says so.
    let Some(models) = conformance::models() else { return };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let (mut orders, mut reached) = (0, 0);
    for model in &models {
        for _ in 0..5 {
            let input = random::input(model, &mut rng);
            let resolved = resolve(model, &input).unwrap_or_else(|all| panic!("{}: {}", model.id, lines(&all)));
            assert_in_order(model, &input, &resolved);
            orders += 1;
        }
        reached += assert_reachable(model, &[]);
        assert_refuses(model, &mut rng);
    }
    println!("{} models; {orders} orders, {reached} values reached", models.len());
}
