//! A provider as a request needs it: where it is, how it is asked, and what is odd about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::family::quirk::Quirk;
pub use crate::family::target::ReasoningStyle;

/// Whether a region is the one asked for or lies in it: `eu-west-1` is in `eu`. Government clouds are areas of their own.
pub fn is_in(region: &str, wanted: &str) -> bool {
    region == wanted || area_of(region) == wanted
}

/// The area in which a region lies.
pub(super) fn area_of(region: &str) -> String {
    match region.split('-').collect::<Vec<_>>().as_slice() {
        [country, "gov", ..] => format!("{country}-gov"),
        [area, ..] => (*area).to_owned(),
        [] => String::new(),
    }
}

/// Who serves models over one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// The id in names, routing settings and receipts.
    pub id: String,
    /// The name for people.
    pub name: String,
    /// Where the company sits, ISO 3166.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Where its API begins, without a trailing slash. May hold `{name}` of [`Provider::variables`].
    pub base_url: String,
    /// Where its API begins for a family whose calls go elsewhere, by family.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub family_base_urls: BTreeMap<String, String>,
    /// Query parameters of every call, such as an API version. Their values may hold `{name}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// Members of every text request's body that name the account, such as the project that pays. Their values may hold
    /// `{name}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub body: BTreeMap<String, String>,
    /// What an account fills in, by name: placeholders of the URLs, and further parts of a credential.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
    /// The families it speaks, the preferred one first.
    pub families: Vec<String>,
    /// How a credential is sent.
    pub auth: Auth,
    /// The name of the secret that holds the gateway's own credential. None: the provider wants no credential, and no
    /// auth header is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// The path of a GET that costs nothing and needs a good credential, below the base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// How reasoning is asked for; none where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningStyle>,
    /// Where it processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// What it does with prompts; none where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_policy: Option<DataPolicy>,
    /// Its deviations from its family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quirks: Vec<Quirk>,
}

/// Where the value of a placeholder comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// The Worker variable or secret that holds it.
    pub env: String,
    /// What holds where that is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether it may be missing altogether. Never of a placeholder in a URL.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// The values a customer may give, `*` for at least one character; empty is any. Needed of a placeholder that ends a
    /// host: which hosts are the provider's, nobody else knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
}

/// How a credential is sent. With [`Scheme::Header`]: `{header}: {prefix}{credential}`; the other schemes make a token
/// or a signature of it, and a token goes the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// What is made of the credential.
    #[serde(default, skip_serializing_if = "Scheme::is_header")]
    pub scheme: Scheme,
    /// The header's name.
    #[serde(default = "authorization")]
    pub header: String,
    /// What stands before the credential, its space included.
    #[serde(default)]
    pub prefix: String,
    /// Further headers that go with every call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_headers: BTreeMap<String, String>,
    /// The service a signature is for ([`Scheme::AwsSigv4`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The same for calls of a family, where it differs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub family_services: BTreeMap<String, String>,
    /// Where tokens are handed out, for the schemes that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// A plain credential that is used instead where its secret is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alternative: Option<Alternative>,
}

/// What is made of a credential before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Nothing: it is the header's value.
    #[default]
    Header,
    /// A signature, AWS version 4. The key's secret names the access key id; the variables `secret_access_key`,
    /// `session_token` and `region` hold the rest.
    AwsSigv4,
    /// An access token from Google for the service account whose JSON the secret holds.
    GoogleServiceAccount,
    /// An access token from IBM Cloud IAM for the API key that the secret holds.
    IamToken,
    /// An access token from the provider's OAuth endpoint for the client credentials that the secret holds.
    OauthClient,
    /// A short-lived HS256 token of the access key that the secret names and the variable `secret_key`.
    HmacJwt,
    /// Something this project does not describe.
    Unsupported,
}

/// A credential that goes as it is, beside a scheme that needs more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// The secret that holds it.
    pub key_env: String,
    /// The header's name.
    pub header: String,
    /// What stands before the credential, its space included.
    #[serde(default)]
    pub prefix: String,
}

impl Default for Auth {
    /// `Authorization: Bearer …`.
    fn default() -> Auth {
        Auth {
            scheme: Scheme::Header,
            header: authorization(),
            prefix: "Bearer ".into(),
            extra_headers: BTreeMap::new(),
            service: None,
            family_services: BTreeMap::new(),
            token_url: None,
            alternative: None,
        }
    }
}

impl Scheme {
    fn is_header(&self) -> bool {
        *self == Scheme::Header
    }
}

fn authorization() -> String {
    "Authorization".into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Provider {
    /// Where calls of `family` begin; placeholders are not filled in.
    pub fn base_url_of(&self, family: &str) -> &str {
        self.family_base_urls.get(family).unwrap_or(&self.base_url)
    }

    /// The value of a variable: what `lookup` finds in the Worker's environment, else its default.
    pub fn value(&self, name: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let variable = self.variables.get(name)?;
        lookup(&variable.env).filter(|value| !value.is_empty()).or_else(|| variable.default.clone())
    }

    /// `template` with every `{name}` replaced by its value; the name of the first that has none otherwise.
    pub fn fill(&self, template: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| after.to_owned())?;
            filled.push_str(before);
            filled.push_str(&self.value(name, lookup).ok_or_else(|| name.to_owned())?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The alternative credential, where its secret is set.
    pub fn alternative(&self, has_secret: &dyn Fn(&str) -> bool) -> Option<&Alternative> {
        self.auth.alternative.as_ref().filter(|alternative| has_secret(&alternative.key_env))
    }

    /// The secret that is the gateway's credential: the alternative one where it is set, else the usual one.
    pub fn base_secret(&self, has_secret: &dyn Fn(&str) -> bool) -> Option<&str> {
        let other = self.alternative(has_secret).map(|other| other.key_env.as_str());
        other.or(self.key_env.as_deref())
    }

    /// The secrets that are credentials by themselves.
    pub fn credential_secrets(&self) -> Vec<&str> {
        let other = self.auth.alternative.as_ref().map(|other| other.key_env.as_str());
        self.key_env.as_deref().into_iter().chain(other).collect()
    }

    /// The name of the first secret or variable without which the provider cannot be called; none: all are there. The
    /// parts of a credential are not needed where the alternative one is set; the placeholders of URLs always are.
    pub fn missing(&self, has_secret: &dyn Fn(&str) -> bool) -> Option<&str> {
        let is_alternative = self.alternative(has_secret).is_some();
        let key = self.key_env.as_deref().filter(|name| !is_alternative && !has_secret(name));
        key.or_else(|| {
            let needed = |(name, variable): &(&String, &Variable)| {
                variable.default.is_none()
                    && !variable.optional
                    && (!is_alternative || self.is_placeholder(name))
                    && !has_secret(&variable.env)
            };
            self.variables.iter().find(needed).map(|(_, variable)| variable.env.as_str())
        })
    }

    /// Whether a variable is a placeholder of a URL.
    pub fn is_placeholder(&self, name: &str) -> bool {
        placeholders_of(&self.base_url)
            .chain(self.family_base_urls.values().flat_map(|url| placeholders_of(url)))
            .chain(self.query.values().chain(self.body.values()).flat_map(|value| placeholders_of(value)))
            .any(|used| used == name)
    }
}

/// The placeholders of a base URL that end its host.
pub(super) fn hosts_of(url: &str) -> impl Iterator<Item = &str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let last = host.rsplit_once('{').filter(|(_, name)| name.ends_with('}') || name.contains("}:"));
    last.and_then(|(_, name)| name.split('}').next()).into_iter()
}

/// The names in braces of a template.
pub(super) fn placeholders_of(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// What a provider says it does with the prompts of API customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPolicy {
    /// Whether it trains on them.
    pub trains_on_api_data: Training,
    /// How long it keeps them; none where it does not say.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// Whether it can keep nothing at all.
    pub zero_retention: ZeroRetention,
}

/// Whether a provider trains on prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Training {
    /// It does not.
    No,
    /// It may, unless the customer switches that off.
    OptOut,
    /// It may.
    May,
    /// It does not say.
    Unknown,
}

/// Whether a provider can keep nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroRetention {
    /// It always keeps nothing.
    Default,
    /// For customers who ask.
    OnRequest,
    /// It cannot.
    None,
    /// It does not say.
    Unknown,
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_region_lies_in_its_area_and_a_government_cloud_in_its_own() {
        for (region, wanted, lies) in [
            ("eu", "eu", true),
            ("eu-west-1", "eu", true),
            ("eu-west-1", "eu-west-1", true),
            ("eu-west-1", "eu-west", false),
            ("eu", "eu-west-1", false),
            ("us-gov-east-1", "us", false),
            ("us-gov-east-1", "us-gov", true),
            ("europe-west4", "eu", false),
            ("global", "", false),
        ] {
            assert_eq!(super::is_in(region, wanted), lies, "{region} in {wanted}");
        }
    }

    use super::*;

    #[test]
    fn provider_json_format_is_unchanged() {
        let json = concat!(
            r#"{"id":"acme","name":"Acme","base_url":"https://acme.example/v1","families":["openai-chat"],"#,
            r#""auth":{"header":"Authorization","prefix":"Bearer "},"key_env":"ACME_KEY","data_policy":"#,
            r#"{"trains_on_api_data":"opt_out","retention_days":null,"zero_retention":"on_request"},"#,
            r#""quirks":["developer_as_system",{"rename":["max_completion_tokens","max_tokens"]},{"drop":["store"]}]}"#,
        );
        let provider: Provider = serde_json::from_str(json).unwrap();
        assert_eq!(provider.auth, Auth::default());
        assert_eq!(provider.quirks[2], Quirk::Drop(vec!["store".into()]));
        assert_eq!(serde_json::to_string(&provider).unwrap(), json);
    }

    fn cloud() -> Provider {
        serde_json::from_value(serde_json::json!({
            "id": "cloud", "name": "Cloud", "base_url": "https://{region}.cloud.example", "families": ["own"],
            "family_base_urls": {"openai-chat": "https://{account}.cloud.example/v1"},
            "query": {"api-version": "{version}"},
            "variables": {
                "account": {"env": "CLOUD_ACCOUNT"}, "region": {"env": "CLOUD_REGION", "default": "eu-1"},
                "secret_access_key": {"env": "CLOUD_SECRET"}, "session_token": {"env": "CLOUD_TOKEN", "optional": true},
                "version": {"env": "CLOUD_VERSION", "default": "v1"},
            },
            "auth": {"scheme": "aws_sigv4", "service": "cloud",
                "alternative": {"key_env": "CLOUD_BEARER", "header": "Authorization", "prefix": "Bearer "}},
            "key_env": "CLOUD_KEY",
        }))
        .unwrap()
    }

    #[test]
    fn placeholders_take_what_is_set_else_the_default() {
        let provider = cloud();
        let lookup = |name: &str| match name {
            "CLOUD_ACCOUNT" => Some("acme".to_owned()),
            "CLOUD_VERSION" => Some(String::new()),
            _ => None,
        };
        let filled = |template: &str| provider.fill(template, &lookup);
        assert_eq!(filled(provider.base_url_of("own")).unwrap(), "https://eu-1.cloud.example");
        assert_eq!(filled(provider.base_url_of("openai-chat")).unwrap(), "https://acme.cloud.example/v1");
        assert_eq!(filled(&provider.query["api-version"]).unwrap(), "v1");
        assert_eq!(filled("https://{secret_access_key}/"), Err("secret_access_key".to_owned()));
        assert_eq!(filled("https://{session_token}"), Err("session_token".to_owned()));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (set, missing) in [
            (vec![], Some("CLOUD_KEY")),
            (vec!["CLOUD_KEY"], Some("CLOUD_ACCOUNT")),
            (vec!["CLOUD_KEY", "CLOUD_ACCOUNT"], Some("CLOUD_SECRET")),
            (vec!["CLOUD_KEY", "CLOUD_ACCOUNT", "CLOUD_SECRET"], None),
            // The alternative credential stands for the key and its further parts, not for the address.
            (vec!["CLOUD_BEARER"], Some("CLOUD_ACCOUNT")),
            (vec!["CLOUD_BEARER", "CLOUD_ACCOUNT"], None),
        ] {
            assert_eq!(cloud().missing(&|name| set.contains(&name)), missing, "{set:?}");
        }
    }
}
