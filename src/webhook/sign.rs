//! Secrets and signatures of deliveries: HMAC-SHA-256 over `{id}.{timestamp}.{body}`, base64, behind `v1,`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";

/// A new secret from chance.
pub fn secret(chance: [u8; 32]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(chance))
}

/// The signature by one secret; `None` where the secret has not the form of one.
fn signature(secret: &str, id: &str, seconds: u64, body: &str) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).ok()?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The header `webhook-signature`: one signature by each secret, so that a rotation can overlap.
pub fn header(secrets: &[String], id: &str, seconds: u64, body: &str) -> String {
    let signatures: Vec<String> = secrets.iter().filter_map(|secret| signature(secret, id, seconds, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_own_example() {
        // From the test of the reference implementations.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let header =
            header(&[secret.to_owned()], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs() {
        let secrets = [secret([1; 32]), "whsec_no base64".to_owned(), secret([2; 32])];
        let header = header(&secrets, "evt_1", 5, "{}");
        let each: Vec<&str> = header.split(' ').collect();
        assert!(each.len() == 2 && each[0] != each[1] && each.iter().all(|one| one.starts_with("v1,")), "{header}");
    }
}
