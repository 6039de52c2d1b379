//! How often what goes wrong: a probability for each fault, which a test may change while the double runs.
//!
//! Each has a word of the same name, with hyphens, for a prompt that wants just that: `file_403` is `[file-403]`.

use serde::{Deserialize, Serialize};

/// Probabilities, 0 to 1, of what goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Any call of the protocols is answered with a 5xx, as by a gateway before them; nothing is done.
    pub outage: f64,
    /// Of the faults of polls and files that pass, how many stay for ever.
    pub lasting: f64,

    // Submissions: of these one comes true at most.
    /// The connection is cut, and nothing was ordered.
    pub cut_before: f64,
    /// The order is taken and the connection cut before the answer.
    pub cut_after: f64,
    /// The order is taken and the answer is a 502.
    pub error_after: f64,
    /// The order is taken and the answer comes late, within two seconds.
    pub late: f64,
    /// The order is refused with 429 and Retry-After.
    pub throttled: f64,
    /// The order is refused with 401: the key is not known.
    pub refused_401: f64,
    /// The order is refused with 402: the account has no credit.
    pub refused_402: f64,
    /// The order is refused with 403: the account is locked.
    pub refused_403: f64,
    /// The order is refused with 404: there is no such model.
    pub refused_404: f64,
    /// The order is refused with 503.
    pub refused_503: f64,
    /// Input that the model does not have is refused, by Replicate at once and by fal at the result.
    pub strict: f64,

    // What becomes of an order.
    /// The order fails.
    pub failed: f64,
    /// The order never ends by itself.
    pub endless: f64,
    /// The order is not known any more once it is over.
    pub forgotten: f64,
    /// A cancel is taken, and the video made all the same.
    pub stubborn: f64,
    /// While it works it says a word that no documentation has.
    pub unknown_word: f64,
    /// What fails is charged, where documentation does not promise the contrary: fal charges no 5xx.
    pub charge_failed: f64,
    /// The order is refused for safety, in the words that are documented.
    pub r#unsafe: f64,
    /// The same in a list.
    pub unsafe_list: f64,
    /// The same in an object.
    pub unsafe_object: f64,
    /// The same as "moderated", in a sentence.
    pub unsafe_moderated: f64,
    /// The same without an error's words where they belong: no `error`, no `detail`.
    pub unsafe_bare: f64,

    // Polls: of those of an order one comes true at most.
    /// A poll, a cancel or a download is cut or answered with an error.
    pub unavailable: f64,
    /// The first polls are answered with 404, as where the order is not known everywhere yet.
    pub poll_404: f64,
    /// One later poll is answered with 404.
    pub poll_404_later: f64,
    /// Polls are answered with 401: the key is not known any more.
    pub poll_401: f64,
    /// Polls are answered with 410.
    pub poll_410: f64,
    /// Polls, at fal those of a result that is there, are answered as in an outage, with 503.
    pub poll_503: f64,
    /// Polls are answered with `{}`.
    pub poll_empty: f64,
    /// Polls are answered with 200 and a page of HTML.
    pub poll_html: f64,
    /// Polls are answered with 2 MiB of logs.
    pub poll_long: f64,

    // Where the video lies: of these one comes true at most.
    /// In an object.
    pub output_object: f64,
    /// In a list whose first element is a picture.
    pub output_list: f64,
    /// In the answer itself, as a `data:` URI.
    pub output_data: f64,
    /// In a bare string where fal has an object, and in a list of one where Replicate has a bare string.
    pub output_bare: f64,
    /// Nowhere.
    pub output_none: f64,

    // The file: of these one comes true at most.
    /// A WebM, which is a video.
    pub file_webm: f64,
    /// A QuickTime file, which is a video.
    pub file_mov: f64,
    /// A GIF.
    pub file_gif: f64,
    /// A WebP.
    pub file_webp: f64,
    /// A page of HTML.
    pub file_html: f64,
    /// Nothing.
    pub file_empty: f64,
    /// More than anybody wants.
    pub file_huge: f64,
    /// An MP4 without its `moov`, of the length that was announced.
    pub file_truncated: f64,
    /// Half of the length that was announced.
    pub file_short: f64,
    /// Half of a body whose length was not announced.
    pub file_cut: f64,
    /// 302 to another address of the double.
    pub file_moved: f64,
    /// 302 to a name of this machine.
    pub file_moved_inward: f64,
    /// 403.
    pub file_403: f64,
    /// 404.
    pub file_404: f64,
    /// 408.
    pub file_408: f64,
    /// 429.
    pub file_429: f64,
    /// 500.
    pub file_500: f64,
    /// A byte at a time.
    pub file_slow: f64,
    /// An address at which nothing listens.
    pub file_unreachable: f64,
    /// An address whose name does not exist.
    pub file_unnamed: f64,
    /// An `https` address at which nothing speaks TLS.
    pub file_untrusted: f64,

    // Webhooks.
    /// No webhook comes.
    pub hook_lost: f64,
    /// The webhook comes twice.
    pub hook_twice: f64,
    /// The webhook comes late, within three seconds.
    pub hook_late: f64,
    /// A webhook with a wrong signature comes first.
    pub hook_forged: f64,
    /// Of Replicate's two webhooks the second comes first.
    pub hook_reordered: f64,
    /// fal's header names another request than the body.
    pub hook_other_id: f64,
    /// The body names no order.
    pub hook_no_id: f64,
    /// The body has 2 MiB of logs.
    pub hook_long: f64,
}
