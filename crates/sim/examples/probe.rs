//! scratch
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: u64 = a[1].parse().unwrap();
    if n == 0 {
        let s = rushes_sim::run::one(
            a[2].parse().unwrap(),
            &rushes_sim::Wall::ALL
                .iter()
                .copied()
                .filter(|w| Some(w.name()) == a.get(3).map(String::as_str))
                .collect::<Vec<_>>(),
            true,
        );
        for l in &s.trace {
            println!("{l}");
        }
        println!("{:?}", s.violation);
        return;
    }
    let t = std::time::Instant::now();
    let r = rushes_sim::run::many(0, n, &[]);
    println!(
        "{} seeds, reads {:?}, joined {}, validations {}, violations {} in {:?}",
        r.seeds,
        r.reads,
        r.joined,
        r.validations,
        r.violations.len(),
        t.elapsed()
    );
    for (s, v) in r.violations.iter().take(8) {
        println!("{s}: {v:?}");
    }
    if a.len() > 3 {
        let w: Vec<_> = a[3..].iter().map(|n| *rushes_sim::Wall::ALL.iter().find(|w| w.name() == n).unwrap()).collect();
        let r = rushes_sim::run::many(0, a[2].parse().unwrap(), &w);
        println!("{w:?} {:?} after {}", r.violations.first(), r.seeds);
        return;
    }
    if a.len() > 2 {
        let m: u64 = a[2].parse().unwrap();
        for w in rushes_sim::Wall::ALL {
            let t = std::time::Instant::now();
            let r = rushes_sim::run::many(0, m, &[*w]);
            println!(
                "{:20} {:?} after {} seeds {:?}",
                w.name(),
                r.violations.first().map(|(s, v)| (s, v.promise)),
                r.seeds,
                t.elapsed()
            );
        }
    }
}
