//! The parts of a change of a generation that no statement may leave out: the scene's copy, and the form around an update that
//! leaves the generation open. The one statement that ends a generation is in [`super::transitions`].
//!
//! Invariants: the scene's copy changes in the statement that changes its latest generation. Rows are locked in one order
//! everywhere: job, generation, credit account, project, scene.

/// Copies what the dashboard shows of the generations in `$from`, which calls them `g`, to their scenes. `changed`: those that are
/// their scene's latest; `started`: each becomes its scene's latest.
macro_rules! scene_copy {
    (changed, $from:literal) => {
        $crate::store::change::scene_copy!("", $from, " and s.latest_generation = g.id")
    };
    (started, $from:literal) => {
        $crate::store::change::scene_copy!("latest_generation = g.id, ", $from, "")
    };
    ($set:literal, $from:literal, $and:literal) => {
        concat!(
            "update scenes s
             set ",
            $set,
            "latest_version = g.version, latest_state = g.state, latest_percent = g.percent,
                 latest_stage = g.stage, latest_thumbnail = g.thumbnail, latest_thumbhash = g.thumbhash
             from ",
            $from,
            " where s.account_id = g.account_id and s.id = g.scene_id",
            $and
        )
    };
}

/// A change that leaves the generation open: its update of `generations g`, and further steps that read `changed g`.
macro_rules! change {
    ($update:literal $(, $more:literal)?) => {
        concat!(
            "with changed as (", $update, " returning g.*)", $(", ", $more,)? ",
             shown as (", $crate::store::change::scene_copy!(changed, "changed g"), ")
             select ", $crate::store::rows::columns!(), " from changed g"
        )
    };
}

pub(super) use {change, scene_copy};
