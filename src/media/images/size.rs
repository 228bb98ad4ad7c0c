//! Width and height, and the nearest of the ratios that a host knows.

/// Megapixels of a picture whose size nobody states.
pub const MEGAPIXELS: u64 = 4;

/// A size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

impl Size {
    /// `1024x768`.
    pub fn parse(text: &str) -> Option<Size> {
        let (width, height) = text.split_once(['x', 'X', '*'])?;
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| (1..=16_384).contains(side));
        Some(Size { width: side(width)?, height: side(height)? })
    }

    /// Begun megapixels.
    pub fn megapixels(self) -> u64 {
        u64::from(self.width).saturating_mul(u64::from(self.height)).div_ceil(1_000_000).max(1)
    }

    /// The nearest of some ratios (`16:9`).
    pub fn ratio(self, known: &[&'static str]) -> Option<&'static str> {
        let value = |text: &str| {
            let (w, h) = text.split_once([':', 'x'])?;
            Some(w.parse::<f64>().ok()? / h.parse::<f64>().ok()?)
        };
        let wanted = f64::from(self.width) / f64::from(self.height);
        // Twice as wide is as far off as half as wide.
        let distance = |name: &str| value(name).map_or(f64::MAX, |ratio| (ratio / wanted).ln().abs());
        known.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ratios() {
        let size = |text: &str| Size::parse(text).unwrap();
        assert_eq!(size("1024x1024").megapixels(), 2);
        for bad in ["", "1024", "0x5", "ax5", "20000x1"] {
            assert_eq!(Size::parse(bad), None, "{bad}");
        }
        let known = ["1:1", "16:9", "9:16", "4:3"];
        for (text, ratio) in [("1024x1024", "1:1"), ("1792x1024", "16:9"), ("1024x1792", "9:16"), ("1000x760", "4:3")] {
            assert_eq!(size(text).ratio(&known), Some(ratio), "{text}");
        }
    }
}
