//! SRT and WebVTT out of segments, or of words where there are none.

use serde_json::Value;

/// Longest cue made of words, in characters and in seconds; and the silence that ends one, in seconds.
const CUE_CHARACTERS_MAX: usize = 80;
const CUE_SECONDS_MAX: f64 = 6.0;
const PAUSE_SECONDS: f64 = 1.0;

/// One cue.
#[derive(Debug, Clone, PartialEq)]
pub struct Cue {
    /// From when, in seconds.
    pub start: f64,
    /// Until when.
    pub end: f64,
    /// What is said.
    pub text: String,
}

/// Cues of segments, else of words, else one of the whole.
pub fn cues(segments: &[Value], words: &[Value], text: &str, duration: f64) -> Vec<Cue> {
    let of = |value: &Value, name: &str| value.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let said =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    if !segments.is_empty() {
        return segments
            .iter()
            .map(|one| Cue { start: of(one, "start"), end: of(one, "end"), text: said(one, "text") })
            .collect();
    }
    let mut cues: Vec<Cue> = Vec::new();
    for word in words {
        let (start, end, word) = (of(word, "start"), of(word, "end"), said(word, "word"));
        let fits = |cue: &&mut Cue| {
            let length = cue.text.chars().count().saturating_add(word.chars().count());
            let is_sentence = cue.text.ends_with(['.', '!', '?', '。', '！', '？']);
            length < CUE_CHARACTERS_MAX
                && end - cue.start <= CUE_SECONDS_MAX
                && start - cue.end < PAUSE_SECONDS
                && !is_sentence
        };
        match cues.last_mut().filter(fits) {
            Some(cue) => {
                cue.text.push(' ');
                cue.text.push_str(&word);
                cue.end = end;
            }
            None => cues.push(Cue { start, end, text: word }),
        }
    }
    if cues.is_empty() { vec![Cue { start: 0.0, end: duration, text: text.trim().to_owned() }] } else { cues }
}

/// SRT.
pub fn srt(cues: &[Cue]) -> String {
    let one = |(number, cue): (usize, &Cue)| {
        format!("{number}\n{} --> {}\n{}\n\n", clock(cue.start, ','), clock(cue.end, ','), cue.text)
    };
    (1..).zip(cues).map(one).collect()
}

/// WebVTT.
pub fn vtt(cues: &[Cue]) -> String {
    let one = |cue: &Cue| format!("{} --> {}\n{}\n\n", clock(cue.start, '.'), clock(cue.end, '.'), cue.text);
    format!("WEBVTT\n\n{}", cues.iter().map(one).collect::<String>())
}

/// `00:00:01,500`.
fn clock(seconds: f64, comma: char) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a span of sound")]
    let ms = (seconds.max(0.0) * 1000.0).round() as u64;
    format!("{:02}:{:02}:{:02}{comma}{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_become_cues_of_a_length_to_read() {
        let word = |word: &str, start: f64| json!({"word": word, "start": start, "end": start + 0.4});
        let words = [word("One", 0.0), word("two.", 0.5), word("Three", 1.0), word("four", 5.0)];
        let texts: Vec<String> = cues(&[], &words, "", 9.0).into_iter().map(|cue| cue.text).collect();
        assert_eq!(texts, ["One two.", "Three", "four"]);
        assert_eq!(cues(&[], &[], " All. ", 2.5), [Cue { start: 0.0, end: 2.5, text: "All.".into() }]);
        let long: Vec<Value> = (0..40u8).map(|n| word("abcdefghi", f64::from(n) / 10.0)).collect();
        assert!(cues(&[], &long, "", 9.0).iter().all(|cue| cue.text.len() <= CUE_CHARACTERS_MAX));
    }

    #[test]
    fn the_two_forms() {
        let cues = [
            Cue { start: 0.0, end: 2.5, text: "Hi.".into() },
            Cue { start: 3661.0, end: 3662.007, text: "Ho.".into() },
        ];
        assert_eq!(srt(&cues), "1\n00:00:00,000 --> 00:00:02,500\nHi.\n\n2\n01:01:01,000 --> 01:01:02,007\nHo.\n\n");
        assert_eq!(
            vtt(&cues),
            "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nHi.\n\n01:01:01.000 --> 01:01:02.007\nHo.\n\n"
        );
    }
}
