//! The services beside this one, as the rules see them: no gRPC beyond this module.

mod assets;
mod work;

pub use assets::AssetClient;
pub use work::{Claims, LeaseStatus, Unreadable, WorkClient};
