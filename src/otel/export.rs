//! Where traces go: the variables, and which requests are among them.

use percent_encoding::percent_decode_str;

/// Most headers of an export.
const HEADERS_MAX: usize = 20;
/// The last 56 bits of a trace id are random, by the W3C's recommendation.
const RANDOM_BITS: u32 = 56;
const RANDOM_DIGITS: usize = 14;

/// Where to send, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The full address.
    pub url: String,
    /// Names and values, as a secret has them.
    pub headers: Vec<(String, String)>,
    /// From 0 to 1.
    pub ratio: f64,
}

impl Export {
    /// From the values of `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER_ARG`; `None`
    /// where no endpoint is set: nothing is sent then.
    pub fn read(endpoint: Option<&str>, headers: Option<&str>, ratio: Option<&str>) -> Option<Export> {
        let base = endpoint.map(str::trim).filter(|url| url.starts_with("http://") || url.starts_with("https://"))?;
        // `name=value` pairs by comma, values percent-encoded.
        let pair = |text: &str| {
            let (name, value) = text.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            let name = name.trim().to_ascii_lowercase();
            let fits = !name.is_empty() && name.bytes().all(is_name) && !value.chars().any(char::is_control);
            fits.then_some((name, value))
        };
        let headers = headers.into_iter().flat_map(|text| text.split(',')).filter_map(pair).take(HEADERS_MAX).collect();
        let ratio = ratio.and_then(|text| text.trim().parse::<f64>().ok()).filter(|ratio| ratio.is_finite());
        let url = format!("{}/v1/traces", base.trim_end_matches('/'));
        Some(Export { url, headers, ratio: ratio.unwrap_or(1.0).clamp(0.0, 1.0) })
    }

    /// Whether a trace is among them: the same for all parts of a trace, whoever asks.
    pub fn takes(&self, trace: &str) -> bool {
        let digits = trace.len().checked_sub(RANDOM_DIGITS).and_then(|at| trace.get(at..));
        let Some(random) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { return false };
        #[allow(clippy::cast_precision_loss, reason = "56 bits: off by less than any ratio somebody writes down")]
        let part = random as f64 / 2f64.powi(i32::try_from(RANDOM_BITS).unwrap_or(56));
        self.ratio >= 1.0 || part < self.ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_opentelemetry_writes_them() {
        assert_eq!(Export::read(None, Some("a=b"), None), None);
        assert_eq!(Export::read(Some("ftp://x"), None, None), None);
        let export =
            Export::read(Some("https://c.dev/otlp/"), Some("Api-Key=s%20x%3D, bad name=1,no,b=2\u{7}"), Some("0.25"))
                .unwrap();
        assert_eq!(export.url, "https://c.dev/otlp/v1/traces");
        assert_eq!(export.headers, [("api-key".to_owned(), "s x=".to_owned())]);
        assert!((export.ratio - 0.25).abs() < 1e-9);
        assert!((Export::read(Some("http://x"), None, Some("nonsense")).unwrap().ratio - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_share_of_traces_is_taken() {
        let export = |ratio: &str| Export::read(Some("http://x"), None, Some(ratio)).unwrap();
        let low = "0af7651916cd43dd84".to_owned() + "00000000000001";
        let high = "0af7651916cd43dd84".to_owned() + "ffffffffffffff";
        assert!(export("1").takes(&low) && export("1").takes(&high));
        assert!(export("0.5").takes(&low) && !export("0.5").takes(&high));
        assert!(!export("0").takes(&low) && !export("1").takes("short") && !export("1").takes("ä".repeat(16).as_str()));
    }
}
