//! What a host will be asked for: the client's wishes as far as it said them, the host's own usual values else. Everything
//! that a price depends on is said, so that nothing is left to the host's own choice.

use serde::{Deserialize, Serialize};

use super::family::Manner;
use super::order::{Field, Kind, Order, Role};
use crate::error::Failure;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What comes out.
    pub kind: Kind,
    /// Its length; zero of a picture.
    pub seconds: u64,
    /// `720p`, where the host takes one.
    pub resolution: Option<String>,
    /// Width to height, where the host takes one.
    pub ratio: Option<(u32, u32)>,
    /// Width and height.
    pub size: (u32, u32),
    /// Jobs at the host.
    pub parts: u64,
    /// Outputs of each of them.
    pub each: u64,
}

/// The shorter side in pixels up to which a resolution counts.
const RESOLUTIONS: &[(u32, &str)] =
    &[(500, "480p"), (600, "540p"), (740, "720p"), (800, "768p"), (1_100, "1080p"), (1_500, "2k"), (u32::MAX, "4k")];

/// The shorter side of a resolution, in pixels.
fn side(resolution: &str) -> u32 {
    match resolution {
        "2k" => 1_440,
        "4k" => 2_160,
        other => other.strip_suffix('p').and_then(|text| text.parse().ok()).unwrap_or(720),
    }
}

fn listed<T: ToString>(list: &[T]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The nearest of the ratios.
fn nearest(ratios: &[(u32, u32)], (w, h): (u32, u32)) -> (u32, u32) {
    let of = |(w, h): (u32, u32)| (f64::from(w) / f64::from(h.max(1))).ln();
    let near = |a: &&(u32, u32), b: &&(u32, u32)| {
        let far = |one: (u32, u32)| (of(one) - of((w, h))).abs();
        far(**a).total_cmp(&far(**b))
    };
    ratios.iter().min_by(near).copied().unwrap_or((w, h))
}

impl Terms {
    /// What a host with these manners is asked for. `Err` names the field it cannot fulfil.
    pub fn of(
        order: &Order,
        kind: Kind,
        manner: &Manner,
        upstream: &str,
        variant: Option<&str>,
    ) -> Result<Terms, Failure> {
        check_references(order, manner, upstream, variant)?;
        let ratio = match (order.ratio, order.size) {
            (Some(ratio), _) if manner.ratios.is_empty() || manner.ratios.contains(&ratio) => ratio,
            (Some(_), _) => {
                let known: Vec<String> = manner.ratios.iter().map(|(w, h)| format!("{w}:{h}")).collect();
                return Err(order.refuse(Field::Ratio, format!("must be one of {}", known.join(", "))));
            }
            (None, Some(size)) => nearest(manner.ratios, size),
            (None, None) if kind == Kind::Image => (1, 1),
            (None, None) => manner.ratio,
        };
        let (parts, each) = if manner.counts { (1, order.count) } else { (order.count, 1) };
        if kind == Kind::Image {
            let (w, h) = ratio;
            let size = order.size.unwrap_or_else(|| area(w, h, 1_024));
            let resolution = order.resolution.clone();
            return Ok(Terms { kind, seconds: 0, resolution, ratio: Some(ratio), size, parts, each });
        }
        let seconds = order.seconds.unwrap_or_else(|| manner.default_seconds(upstream));
        if !manner.seconds.contains(&seconds) {
            return Err(order.refuse(Field::Seconds, format!("must be one of {}", listed(manner.seconds))));
        }
        let by_size = || {
            let (w, h) = order.size?;
            let found = RESOLUTIONS.iter().find(|(most, _)| w.min(h) <= *most);
            found.map(|(_, name)| (*name).to_owned())
        };
        let resolution = order.resolution.clone().or_else(by_size).unwrap_or_else(|| manner.resolution.to_owned());
        if !manner.resolutions.is_empty() && !manner.resolutions.contains(&resolution.as_str()) {
            let field = if order.resolution.is_some() { Field::Resolution } else { Field::Size };
            return Err(order.refuse(field, format!("must be one of {}", listed(manner.resolutions))));
        }
        let size = order.size.unwrap_or_else(|| frame(ratio, side(&resolution)));
        if !manner.sizes.is_empty() && !manner.sizes.contains(&size) {
            let known: Vec<String> = manner.sizes.iter().map(|(w, h)| format!("{w}x{h}")).collect();
            return Err(order.refuse(Field::Size, format!("must be one of {}", known.join(", "))));
        }
        Ok(Terms { kind, seconds, resolution: Some(resolution), ratio: Some(ratio), size, parts, each })
    }

    /// All outputs.
    pub fn count(&self) -> u64 {
        self.parts.saturating_mul(self.each)
    }

    /// The size as text.
    pub fn size_text(&self, mark: char) -> String {
        format!("{}{mark}{}", self.size.0, self.size.1)
    }

    /// The ratio as text.
    pub fn ratio_text(&self) -> String {
        self.ratio.map_or_else(String::new, |(w, h)| format!("{w}:{h}"))
    }
}

/// Width and height of a ratio whose shorter side is given, even numbers.
fn frame((w, h): (u32, u32), short: u32) -> (u32, u32) {
    let long = |a: u32, b: u32| short.saturating_mul(a).checked_div(b).unwrap_or(short) & !1;
    if w >= h { (long(w, h), short) } else { (short, long(h, w)) }
}

/// Width and height of a ratio with about `side`² pixels, in steps of 32.
fn area(w: u32, h: u32, side: u32) -> (u32, u32) {
    let root = (f64::from(w) / f64::from(h.max(1))).sqrt();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a side of some thousand pixels")]
    let step = |value: f64| ((value / 32.0).round() as u32).saturating_mul(32).max(32);
    (step(f64::from(side) * root), step(f64::from(side) / root))
}

/// Some offers are for one way to work alone: their names say which.
fn check_references(order: &Order, manner: &Manner, upstream: &str, variant: Option<&str>) -> Result<(), Failure> {
    let has = |role: Role| order.references.iter().any(|one| one.role == role);
    let way = variant.unwrap_or_default();
    let says = |word: &str, short: &str| way == word || upstream.ends_with(word) || upstream.ends_with(short);
    let refuse = |message: &str| Err(order.refuse(Field::References, message));
    if !order.references.is_empty() && manner.references == 0 {
        return refuse("are not taken");
    }
    if order.references.len() > manner.references {
        return refuse(&format!("may be {} at most", manner.references));
    }
    if says("image-to-video", "-i2v") && !has(Role::FirstFrame) {
        return refuse("must hold a first frame");
    }
    if says("reference-to-video", "-r2v") && !has(Role::Reference) {
        return refuse("must hold a reference");
    }
    if says("text-to-video", "-t2v") && !order.references.is_empty() {
        return refuse("are not taken");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::family::Family;
    use crate::job::order::Reference;

    fn order() -> Order {
        Order { models: vec!["m".into()], prompt: "p".into(), count: 2, ..Order::default() }
    }

    fn of(order: &Order, family: Family, upstream: &str) -> Result<Terms, Failure> {
        Terms::of(order, Kind::Video, family.manner(), upstream, None)
    }

    #[test]
    fn what_is_not_said_is_the_hosts_usual_value() {
        let terms = of(&order(), Family::OpenAi, "sora-2").unwrap();
        assert_eq!((terms.seconds, terms.size, terms.parts, terms.each), (4, (720, 1280), 2, 1));
        let terms = of(&order(), Family::Veo, "veo-3.1").unwrap();
        assert_eq!((terms.seconds, terms.resolution.as_deref(), terms.ratio_text()), (8, Some("720p"), "16:9".into()));
        assert_eq!((terms.parts, terms.each, terms.count()), (1, 2, 2));
    }

    #[test]
    fn a_size_says_resolution_and_ratio() {
        let terms = of(&Order { size: Some((1080, 1920)), ..order() }, Family::Veo, "veo-3.1").unwrap();
        assert_eq!((terms.resolution.as_deref(), terms.ratio), (Some("1080p"), Some((9, 16))));
        let image = Terms::of(&Order { ratio: Some((16, 9)), ..order() }, Kind::Image, Family::Bfl.manner(), "f", None);
        assert_eq!(image.unwrap().size, (1376, 768));
    }

    #[test]
    fn what_a_host_cannot_do_is_named() {
        for (order, family, param) in [
            (Order { seconds: Some(5), ..order() }, Family::OpenAi, "input.duration"),
            (Order { ratio: Some((21, 9)), ..order() }, Family::Veo, "input.aspect_ratio"),
            (Order { resolution: Some("8k".into()), ..order() }, Family::Veo, "input.resolution"),
            (Order { size: Some((100, 100)), ..order() }, Family::OpenAi, "input.size"),
        ] {
            assert_eq!(of(&order, family, "m").unwrap_err().param.as_deref(), Some(param), "{order:?}");
        }
    }

    #[test]
    fn an_offer_for_images_alone_wants_one() {
        let image = |role| Reference { url: "https://a.dev/x".into(), role };
        let with = |role| Order { references: vec![image(role)], ..order() };
        for (order, upstream, expected) in [
            (order(), "seedance/text-to-video", true),
            (order(), "wan2.7-i2v", false),
            (with(Role::FirstFrame), "wan2.7-i2v", true),
            (with(Role::FirstFrame), "wan2.7-t2v", false),
            (with(Role::Reference), "seedance/reference-to-video", true),
            (with(Role::Reference), "seedance/image-to-video", false),
        ] {
            assert_eq!(of(&order, Family::Fal, upstream).is_ok(), expected, "{upstream}");
        }
    }
}
