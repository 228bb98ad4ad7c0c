//! What is made of a credential before it is sent: signatures and short-lived tokens. Pure: time, keys and bytes come in.

pub mod hmac_jwt;
pub mod service_account;
pub mod sigv4;
pub mod token;
