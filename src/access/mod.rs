//! Who may do what: key secrets, and the policy a key carries.

pub mod audit;
pub mod byok;
pub mod key;
pub mod management;
pub mod policy;
pub mod prompts;
pub mod routing;
pub mod variables;
