//! The two forms of every change to a generation. A statement brings its own update; the form adds what no change may leave
//! out: the scene's copy, and at the end the settlement in the ledger.
//!
//! Invariants: the scene's copy changes in the statement that changes its latest generation; and a generation that becomes
//! terminal is settled in the same statement, by entries that sum to zero. Rows are locked in one order everywhere:
//! job, generation, credit account, project, scene.

/// A change that leaves the generation open.
macro_rules! change {
    ($update:literal $(, $more:literal)?) => {
        concat!(
            "with changed as (", $update, " returning g.*)", $(", ", $more,)? ",
             shown as (
                 update scenes s
                 set latest_version = g.version, latest_state = g.state, latest_percent = g.percent,
                     latest_stage = g.stage, latest_thumbnail = g.thumbnail
                 from changed g
                 where s.account_id = g.account_id and s.id = g.scene_id and s.latest_generation = g.id
             )
             select ", $crate::store::rows::columns!(), " from changed g"
        )
    };
}

/// A change that ends the generation. `$1` is three ids for the ledger's lines. `(select count(*) from …) as first` makes a
/// step wait for the one before: PostgreSQL runs data-modifying steps in no order of its own, and the lock order needs one.
macro_rules! settle {
    ($update:literal) => {
        concat!(
            "with changed as (",
            $update,
            " returning g.*),
             credited as (
                 update credit_accounts c
                 set held_micros = c.held_micros - g.held_micros,
                     available_micros = c.available_micros + g.released_micros,
                     spent_micros = c.spent_micros + g.captured_micros
                 from changed g
                 where c.account_id = g.account_id
                 returning c.account_id
             ),
             entered as (
                 insert into ledger (id, account_id, generation_id, entry, book, amount_micros)
                 select line.id, g.account_id, g.id, case when g.state = 6 then 'capture' else 'release' end,
                        line.book, line.amount
                 from changed g
                 cross join lateral (values
                     (($1::uuid[])[1], 'held', -g.held_micros),
                     (($1::uuid[])[2], 'spent', g.captured_micros),
                     (($1::uuid[])[3], 'available', g.released_micros)
                 ) as line (id, book, amount)
                 where line.book = 'held' or line.amount <> 0
             ),
             costed as (
                 update projects p
                 set completed_count = p.completed_count + 1,
                     completed_cost_micros = p.completed_cost_micros + g.captured_micros
                 from changed g cross join (select count(*) from credited) as first
                 where g.state = 6 and p.account_id = g.account_id and p.id = g.project_id
                 returning p.id
             ),
             shown as (
                 update scenes s
                 set latest_version = g.version, latest_state = g.state, latest_percent = g.percent,
                     latest_stage = g.stage, latest_thumbnail = g.thumbnail
                 from changed g cross join (select count(*) from costed) as first
                 where s.account_id = g.account_id and s.id = g.scene_id and s.latest_generation = g.id
             )
             select ",
            $crate::store::rows::columns!(),
            " from changed g"
        )
    };
}

pub(super) use {change, settle};
