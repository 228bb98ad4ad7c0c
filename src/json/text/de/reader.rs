//! The reader itself: the steps that all types share, and serde's view of them.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::Error;
use crate::scan;

/// Lists and objects in each other: one fewer than this may be open. As in serde_json.
const DEPTH_MAX: u32 = 128;

/// By this name serde_json's `RawValue` asks for a value's own text.
const RAW: &str = "$serde_json::private::RawValue";

/// A name that is none of the fields or variants.
const UNKNOWN: usize = usize::MAX;

/// A text and how far it has been read.
pub struct Reader<'de> {
    text: &'de str,
    at: usize,
    depth: u32,
    /// The string last read, where it has no escapes; …
    plain: Option<&'de str>,
    /// … else it stands here.
    unescaped: String,
}

enum Number {
    Whole(u64),
    Negative(i64),
    Float(f64),
}

impl<'de> Reader<'de> {
    pub fn new(text: &'de str) -> Reader<'de> {
        Reader { text, at: 0, depth: 0, plain: None, unescaped: String::new() }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing but white space is left.
    #[inline(never)]
    pub fn is_done(&mut self) -> bool {
        self.peek();
        self.at == self.text.len()
    }

    #[inline(always)]
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn step(&mut self) {
        self.at = self.at.wrapping_add(1);
    }

    /// The byte behind any white space; 0 at the end.
    #[inline(always)]
    fn peek(&mut self) -> u8 {
        match self.byte() {
            byte @ b'!'.. => byte,
            _ => self.peek_far(),
        }
    }

    #[inline(never)]
    fn peek_far(&mut self) -> u8 {
        while matches!(self.byte(), b' ' | b'\n' | b'\t' | b'\r') {
            self.step();
        }
        self.byte()
    }

    /// Takes the word, if it stands here.
    #[inline(never)]
    fn takes(&mut self, word: &str) -> bool {
        let is_here = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if is_here {
            self.at = self.at.wrapping_add(word.len());
        }
        is_here
    }

    #[inline(never)]
    fn takes_null(&mut self) -> bool {
        self.peek() == b'n' && self.takes("null")
    }

    /// Takes the bracket that opens a list or an object.
    #[inline(never)]
    fn open(&mut self, bracket: u8, expected: &dyn Expected) -> Result<(), Error> {
        if self.peek() != bracket {
            return Err(self.wrong(expected));
        }
        self.deeper()
    }

    fn deeper(&mut self) -> Result<(), Error> {
        if self.depth.wrapping_add(1) >= DEPTH_MAX {
            return Err(Error::said(format_args!("recursion limit exceeded")));
        }
        self.depth = self.depth.wrapping_add(1);
        self.step();
        Ok(())
    }

    /// Goes to the next member or item, or behind the closing bracket: then there is none.
    #[inline(always)]
    fn next(&mut self, opening: u8, closing: u8) -> Result<bool, Error> {
        // No value ends with an opening bracket, so one right before this place is that of the list or object itself.
        let before = self.text.as_bytes().get(self.at.wrapping_sub(1)).copied();
        let byte = self.peek();
        if byte == closing {
            self.depth = self.depth.wrapping_sub(1);
            self.step();
            return Ok(false);
        }
        if before != Some(opening) {
            if byte != b',' {
                return Err(Error::syntax());
            }
            self.step();
            self.peek();
        }
        Ok(true)
    }

    #[inline(never)]
    fn next_item(&mut self) -> Result<bool, Error> {
        self.next(b'[', b']')
    }

    /// The same in an object: reads the next name and its colon.
    #[inline(never)]
    fn next_name(&mut self) -> Result<bool, Error> {
        let is_more = self.next(b'{', b'}')?;
        if is_more {
            self.name()?;
        }
        Ok(is_more)
    }

    #[inline(always)]
    fn name(&mut self) -> Result<(), Error> {
        if self.peek() != b'"' {
            return Err(Error::syntax());
        }
        self.string()?;
        if self.peek() != b':' {
            return Err(Error::syntax());
        }
        self.step();
        Ok(())
    }

    /// Ends a list whose visitor may have stopped before its end; `depth` is that around it.
    #[inline(never)]
    fn close_list(&mut self, depth: u32) -> Result<(), Error> {
        if self.depth != depth && self.next_item()? {
            return Err(Error::said(format_args!("trailing characters")));
        }
        Ok(())
    }

    /// The same for an object.
    #[inline(never)]
    fn close_map(&mut self, depth: u32) -> Result<(), Error> {
        if self.depth != depth && self.next_name()? {
            return Err(Error::said(format_args!("trailing characters")));
        }
        Ok(())
    }

    /// Ends the object around a variant.
    #[inline(never)]
    fn close_variant(&mut self) -> Result<(), Error> {
        if self.peek() != b'}' {
            return Err(Error::syntax());
        }
        self.depth = self.depth.wrapping_sub(1);
        self.step();
        Ok(())
    }

    /// Reads the string whose quote stands here.
    #[inline(always)]
    fn string(&mut self) -> Result<(), Error> {
        let from = self.at.wrapping_add(1);
        let bytes = self.text.as_bytes();
        let end = scan::special(bytes, from).ok_or_else(Error::syntax)?;
        if bytes.get(end) != Some(&b'"') {
            return self.escaped(from, end);
        }
        self.plain = self.text.get(from..end);
        self.at = end.wrapping_add(1);
        Ok(())
    }

    /// Reads on where the first byte that does not stand for itself is at `special`.
    #[inline(never)]
    fn escaped(&mut self, mut from: usize, mut special: usize) -> Result<(), Error> {
        let bytes = self.text.as_bytes();
        self.plain = None;
        self.unescaped.clear();
        loop {
            self.unescaped.push_str(self.text.get(from..special).unwrap_or_default());
            let (read, length) = match bytes.get(special..).unwrap_or_default() {
                [b'"', ..] => {
                    self.at = special.wrapping_add(1);
                    return Ok(());
                }
                [b'\\', b'u', rest @ ..] => unicode(rest)?,
                [b'\\', escape, ..] => (simple(*escape).ok_or_else(Error::syntax)?, 2),
                _ => return Err(Error::syntax()),
            };
            self.unescaped.push(read);
            from = special.wrapping_add(length);
            special = scan::special(bytes, from).ok_or_else(Error::syntax)?;
        }
    }

    #[inline(never)]
    fn expect_string(&mut self, expected: &dyn Expected) -> Result<(), Error> {
        if self.peek() != b'"' {
            return Err(self.wrong(expected));
        }
        self.string()
    }

    #[inline(never)]
    fn owned_string(&mut self, expected: &dyn Expected) -> Result<String, Error> {
        self.expect_string(expected)?;
        Ok(self.word().to_owned())
    }

    /// The string last read.
    fn word(&self) -> &str {
        self.plain.unwrap_or(&self.unescaped)
    }

    fn visit_word<V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Error> {
        match self.plain {
            Some(plain) => visitor.visit_borrowed_str(plain),
            None => visitor.visit_str(&self.unescaped),
        }
    }

    #[inline(never)]
    fn number(&mut self, expected: &dyn Expected) -> Result<Number, Error> {
        if !matches!(self.peek(), b'-' | b'0'..=b'9') {
            return Err(self.wrong(expected));
        }
        let end = scan::number_end(self.text.as_bytes(), self.at).ok_or_else(Error::syntax)?;
        let digits = self.text.get(self.at..end).unwrap_or_default();
        let number = whole(digits.as_bytes()).or_else(|| any(digits));
        self.at = end;
        number.ok_or_else(|| {
            self.at = end.wrapping_sub(digits.len());
            Error::said(format_args!("number out of range"))
        })
    }

    fn visit_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.number(&visitor)? {
            Number::Whole(number) => visitor.visit_u64(number),
            Number::Negative(number) => visitor.visit_i64(number),
            Number::Float(number) => visitor.visit_f64(number),
        }
    }

    #[inline(never)]
    fn boolean(&mut self, expected: &dyn Expected) -> Result<bool, Error> {
        match self.peek() {
            b't' if self.takes("true") => Ok(true),
            b'f' if self.takes("false") => Ok(false),
            _ => Err(self.wrong(expected)),
        }
    }

    #[inline(never)]
    fn null(&mut self, expected: &dyn Expected) -> Result<(), Error> {
        if self.takes_null() { Ok(()) } else { Err(self.wrong(expected)) }
    }

    /// The text of the next value, whose syntax is checked.
    #[inline(never)]
    fn raw(&mut self) -> Result<&'de str, Error> {
        self.peek();
        let end = scan::value_end(self.text.as_bytes(), self.at).ok_or_else(Error::syntax)?;
        let raw = self.text.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(raw)
    }

    /// Why the value that stands here is not what is expected.
    #[cold]
    #[inline(never)]
    fn wrong(&mut self, expected: &dyn Expected) -> Error {
        let byte = self.peek();
        let at = self.at;
        let error = match byte {
            b'n' if self.takes_null() => Error::invalid_type(Unexpected::Unit, expected),
            b't' if self.takes("true") => Error::invalid_type(Unexpected::Bool(true), expected),
            b'f' if self.takes("false") => Error::invalid_type(Unexpected::Bool(false), expected),
            b'[' => Error::invalid_type(Unexpected::Seq, expected),
            b'{' => Error::invalid_type(Unexpected::Map, expected),
            b'"' => match self.string() {
                Ok(()) => Error::invalid_type(Unexpected::Str(self.word()), expected),
                Err(error) => error,
            },
            b'-' | b'0'..=b'9' => match self.number(expected) {
                Ok(Number::Whole(number)) => Error::invalid_type(Unexpected::Unsigned(number), expected),
                Ok(Number::Negative(number)) => Error::invalid_type(Unexpected::Signed(number), expected),
                Ok(Number::Float(number)) => Error::invalid_type(Unexpected::Float(number), expected),
                Err(error) => error,
            },
            _ => Error::syntax(),
        };
        self.at = at;
        error
    }
}

/// A number without sign that surely fits.
fn whole(digits: &[u8]) -> Option<Number> {
    let fits = digits.len() < 20;
    let digit = |whole: u64, byte: &u8| {
        byte.is_ascii_digit().then(|| whole.wrapping_mul(10).wrapping_add(u64::from(byte & 15)))
    };
    digits.iter().try_fold(0, digit).filter(|_| fits).map(Number::Whole)
}

#[inline(never)]
fn any(digits: &str) -> Option<Number> {
    if let Ok(whole) = digits.parse() {
        return Some(Number::Whole(whole));
    }
    match digits.parse() {
        // -0 is a float: a whole number has no sign then.
        Ok(negative @ ..0) => Some(Number::Negative(negative)),
        _ => digits.parse().ok().filter(|float: &f64| float.is_finite()).map(Number::Float),
    }
}

fn simple(escape: u8) -> Option<char> {
    Some(match escape {
        b'"' | b'\\' | b'/' => char::from(escape),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// The character whose escape goes on with `rest` behind its `\u`, and how long the whole escape is.
fn unicode(rest: &[u8]) -> Result<(char, usize), Error> {
    let first = hex(rest)?;
    if let Some(read) = char::from_u32(first) {
        return Ok((read, 6));
    }
    let lone = || Error::said(format_args!("lone leading surrogate in hex escape"));
    if first >= 0xDC00 {
        return Err(lone());
    }
    let [_, _, _, _, b'\\', b'u', rest @ ..] = rest else {
        return Err(Error::said(format_args!("unexpected end of hex escape")));
    };
    let second = hex(rest)?;
    if !(0xDC00..=0xDFFF).contains(&second) {
        return Err(lone());
    }
    let joined = (((first & 0x3FF) << 10) | (second & 0x3FF)).wrapping_add(0x1_0000);
    Ok((char::from_u32(joined).ok_or_else(lone)?, 12))
}

fn hex(digits: &[u8]) -> Result<u32, Error> {
    let four = digits.first_chunk::<4>().ok_or_else(Error::syntax)?;
    let digit = |number: u32, byte: &u8| Some((number << 4) | char::from(*byte).to_digit(16)?);
    four.iter().try_fold(0, digit).ok_or_else(Error::syntax)
}

macro_rules! any_number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit_number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            b'"' => {
                self.string()?;
                self.visit_word(visitor)
            }
            b'{' => self.deserialize_map(visitor),
            b'[' => self.deserialize_seq(visitor),
            b't' | b'f' => self.deserialize_bool(visitor),
            b'n' => self.deserialize_unit(visitor),
            _ => self.visit_number(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let boolean = self.boolean(&visitor)?;
        visitor.visit_bool(boolean)
    }

    any_number! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64 }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect_string(&visitor)?;
        self.visit_word(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let owned = self.owned_string(&visitor)?;
        visitor.visit_string(owned)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.takes_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.null(&visitor)?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == RAW {
            let raw = self.raw()?;
            return visitor.visit_map(Raw(Some(raw)));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.open(b'[', &visitor)?;
        visitor.visit_seq(Items(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        let depth = self.depth;
        self.open(b'[', &visitor)?;
        let tuple = visitor.visit_seq(Items(self))?;
        self.close_list(depth)?;
        Ok(tuple)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let depth = self.depth;
        self.open(b'{', &visitor)?;
        let map = visitor.visit_map(Members(self))?;
        self.close_map(depth)?;
        Ok(map)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.open(b'{', &visitor)?;
        visitor.visit_map(Fields { reader: self, fields, index: UNKNOWN })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let is_bare = self.variant()?;
        visitor.visit_enum(Variant { reader: self, variants, is_bare })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.raw()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf }
}

/// A value's text, in the form in which serde_json's `RawValue` wants it: a map of one member whose name is [`RAW`].
struct Raw<'de>(Option<&'de str>);

impl<'de> MapAccess<'de> for Raw<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.0.is_none() {
            return Ok(None);
        }
        seed.deserialize(BorrowedStrDeserializer::new(RAW)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0.take().unwrap_or_default()))
    }
}

struct Items<'a, 'de>(&'a mut Reader<'de>);

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.0.next_item()? { seed.deserialize(&mut *self.0).map(Some) } else { Ok(None) }
    }
}

/// The members of a map.
struct Members<'a, 'de>(&'a mut Reader<'de>);

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.0.next_name()? { seed.deserialize(Name(&mut *self.0)).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.0)
    }
}

/// The members of a struct.
struct Fields<'a, 'de> {
    reader: &'a mut Reader<'de>,
    fields: &'static [&'static str],
    /// Which field the last name was.
    index: usize,
}

impl Fields<'_, '_> {
    #[inline(never)]
    fn next(&mut self) -> Result<bool, Error> {
        let is_more = self.reader.next_name()?;
        if is_more {
            self.index = index_of(self.reader.word(), self.fields, self.index.wrapping_add(1));
        }
        Ok(is_more)
    }

    #[cold]
    #[inline(never)]
    fn unknown(&self) -> Error {
        Error::unknown_field(self.reader.word(), self.fields)
    }
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.next()? {
            return Ok(None);
        }
        match seed.deserialize(Index(self.index)) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(self.unknown()),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }
}

/// Which of the names `word` is. Fields mostly come in their order: the one that is `likely` is looked at first.
#[inline(never)]
fn index_of(word: &str, names: &[&str], likely: usize) -> usize {
    match names.get(likely) {
        Some(name) if *name == word => likely,
        _ => names.iter().position(|name| *name == word).unwrap_or(UNKNOWN),
    }
}

/// The number of a field or a variant.
struct Index(usize);

impl<'de> Deserializer<'de> for Index {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_u64(self.0 as u64)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl Reader<'_> {
    /// Reads the name of a variant; whether it stands alone, without content.
    #[inline(never)]
    fn variant(&mut self) -> Result<bool, Error> {
        match self.peek() {
            b'"' => {
                self.string()?;
                Ok(true)
            }
            b'{' => {
                self.deeper()?;
                self.name()?;
                Ok(false)
            }
            _ => Err(Error::syntax()),
        }
    }
}

/// A variant whose name has been read.
struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    variants: &'static [&'static str],
    is_bare: bool,
}

impl Variant<'_, '_> {
    #[inline(never)]
    fn index(&self) -> Index {
        Index(index_of(self.reader.word(), self.variants, 0))
    }

    #[cold]
    #[inline(never)]
    fn unknown(&self) -> Error {
        Error::unknown_variant(self.reader.word(), self.variants)
    }

    /// Goes to its content.
    #[inline(never)]
    fn content(&self, expected: &'static str) -> Result<(), Error> {
        if self.is_bare { Err(Error::invalid_type(Unexpected::UnitVariant, &expected)) } else { Ok(()) }
    }

    #[inline(never)]
    fn unit(self) -> Result<(), Error> {
        if self.is_bare {
            return Ok(());
        }
        self.reader.null(&"unit")?;
        self.reader.close_variant()
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        match seed.deserialize(self.index()) {
            Ok(variant) => Ok((variant, self)),
            Err(_) => Err(self.unknown()),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.unit()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.content("newtype variant")?;
        let content = seed.deserialize(&mut *self.reader)?;
        self.reader.close_variant()?;
        Ok(content)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content("tuple variant")?;
        let content = self.reader.deserialize_tuple(length, visitor)?;
        self.reader.close_variant()?;
        Ok(content)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content("struct variant")?;
        let content = self.reader.deserialize_struct("", fields, visitor)?;
        self.reader.close_variant()?;
        Ok(content)
    }
}

/// The name in a map that has just been read.
struct Name<'a, 'de>(&'a mut Reader<'de>);

macro_rules! whole_number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let word = self.0.word();
            match (word.parse(), word.parse()) {
                (Ok(number), _) if !word.starts_with('+') => visitor.visit_u64(number),
                (_, Ok(number)) if !word.starts_with('+') => visitor.visit_i64(number),
                _ => Err(Error::said(format_args!("invalid value: expected key to be a number in quotes"))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.visit_word(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.0.word().to_owned())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Variant { reader: self.0, variants, is_bare: true })
    }

    whole_number! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}
