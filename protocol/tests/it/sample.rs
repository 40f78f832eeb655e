//! Random messages as bytes, written straight from the shapes: a second, independent reading of the
//! notation.

use flumen_protocol_generator::{Field, Message, Struct, Type};

/// A small generator of pseudo-random numbers (SplitMix64), so that a seed names a message for
/// ever.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How a count or length is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Width {
    Two,
    Four,
    Varint,
}

/// Where a count or length stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) width: Width,
}

/// A message as bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) bytes: Vec<u8>,
    /// Every count and length in it.
    pub(crate) marks: Vec<Mark>,
}

/// How rich a message is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Richness {
    /// Nulls, empty arrays, absent tagged fields come by chance.
    Random,
    /// Nothing is null, empty or absent.
    Full,
    /// Everything that may be is null, all else is empty.
    Empty,
    /// Each array holds one element twice; names are `t`, numbers small, so that they mean something.
    Twins,
}

impl Richness {
    fn has_tags(self) -> bool {
        matches!(self, Richness::Random | Richness::Full)
    }
}

/// A random message of that version.
pub(crate) fn sample(message: &Message, version: i16, richness: Richness, seed: u64) -> Sample {
    let mut maker = Maker {
        message,
        version,
        richness,
        flexible: message.is_flexible(version),
        dice: Dice(seed),
        out: Sample::default(),
    };
    maker.write_struct(&message.structs[0], true);
    maker.out
}

struct Maker<'a> {
    message: &'a Message,
    version: i16,
    richness: Richness,
    flexible: bool,
    dice: Dice,
    out: Sample,
}

impl Maker<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.out.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.bytes.push(value as u8);
    }

    fn mark(&mut self, width: Width, write: impl FnOnce(&mut Self)) {
        let at = self.out.bytes.len();
        write(self);
        let len = self.out.bytes.len() - at;
        self.out.marks.push(Mark { at, len, width });
    }

    /// A length; `None` is null.
    fn length(&mut self, classic: Width, len: Option<usize>) {
        let value = len.map_or(-1, |len| len as i32);
        match (self.flexible, classic) {
            (true, _) => self.mark(Width::Varint, |m| m.varint((value + 1) as u32)),
            (false, Width::Two) => self.mark(classic, |m| m.put(&(value as i16).to_be_bytes())),
            (false, _) => self.mark(classic, |m| m.put(&value.to_be_bytes())),
        }
    }

    /// `random`: else every field has its default.
    fn write_struct(&mut self, s: &Struct, random: bool) {
        let version = self.version;
        let present = |f: &&Field| f.versions.contains(version);
        for field in s.fields.iter().filter(present).filter(|f| f.tag.is_none()) {
            self.write_field(field, random);
        }
        if !self.flexible {
            return;
        }
        let mut known: Vec<&Field> = s.fields.iter().filter(present).collect();
        known.retain(|f| f.tag.is_some());
        known.sort_by_key(|f| f.tag);
        let mut tags: Vec<(u32, Sample)> = Vec::new();
        let tagged = random && self.richness.has_tags();
        for field in known.iter().filter(|_| tagged) {
            if self.richness == Richness::Full || self.dice.once_in(2) {
                let content = self.set_value(field);
                tags.push((field.tag.expect("it is tagged"), content));
            }
        }
        if tagged && (self.richness == Richness::Full || self.dice.once_in(4)) {
            // kafka-protocol refuses a tag that only later versions know, so stay above all of them
            let tags_ever = s.fields.iter().filter(|f| f.tag.is_some()).count();
            let mut number = (tags_ever + self.dice.below(300)) as u32;
            for _ in 0..1 + self.dice.below(3) {
                let bytes = (0..self.dice.below(20)).map(|i| i as u8).collect();
                let marks = Vec::new();
                tags.push((number, Sample { bytes, marks }));
                number += 1 + self.dice.below(1_000) as u32;
            }
        }
        self.mark(Width::Varint, |m| m.varint(tags.len() as u32));
        for (tag, content) in tags {
            self.varint(tag);
            self.mark(Width::Varint, |m| m.varint(content.bytes.len() as u32));
            let base = self.out.bytes.len();
            self.put(&content.bytes);
            let moved = content.marks.iter().map(|mark| Mark {
                at: base + mark.at,
                ..*mark
            });
            self.out.marks.extend(moved);
        }
    }

    /// The bytes of a tagged field that is not its default: a default would not be written.
    fn set_value(&mut self, field: &Field) -> Sample {
        let default = self.apart(field, false);
        loop {
            let value = self.apart(field, true);
            if value.bytes != default.bytes {
                return value;
            }
        }
    }

    /// A field on its own.
    fn apart(&mut self, field: &Field, random: bool) -> Sample {
        let outer = std::mem::take(&mut self.out);
        self.write_field(field, random);
        std::mem::replace(&mut self.out, outer)
    }

    fn write_field(&mut self, field: &Field, random: bool) {
        let nullable = field.nullable.is_some_and(|n| n.contains(self.version));
        let default_null = field.default.as_deref() == Some("null") || field.ty == Type::Records;
        let null = match (random, self.richness) {
            (false, _) => default_null,
            (true, Richness::Full | Richness::Twins) => false,
            (true, Richness::Empty) => true,
            (true, Richness::Random) => self.dice.once_in(4),
        };
        if nullable && null {
            return match &field.ty {
                Type::String => self.length(Width::Two, None),
                Type::Struct(_) => self.put(&[0xff]),
                _ => self.length(Width::Four, None),
            };
        }
        if nullable && matches!(field.ty, Type::Struct(_)) {
            self.put(&[1]);
        }
        match random {
            true => self.value(&field.ty),
            false => self.default_value(field),
        }
    }

    fn default_value(&mut self, field: &Field) {
        let number = || {
            let text = field.default.as_deref().unwrap_or("0");
            text.parse::<i64>().expect("a number as default")
        };
        match &field.ty {
            Type::Bool => self.put(&[u8::from(field.default.as_deref() == Some("true"))]),
            Type::I8 => self.put(&(number() as i8).to_be_bytes()),
            Type::I16 | Type::U16 => self.put(&(number() as i16).to_be_bytes()),
            Type::I32 | Type::U32 => self.put(&(number() as i32).to_be_bytes()),
            Type::I64 => self.put(&number().to_be_bytes()),
            Type::F64 => self.put(&[0; 8]),
            Type::Uuid => self.put(&[0; 16]),
            Type::String => self.length(Width::Two, Some(0)),
            Type::Bytes | Type::Records | Type::Array(_) => self.length(Width::Four, Some(0)),
            Type::Struct(name) => self.write_struct(self.message.find(name), false),
        }
    }

    fn value(&mut self, ty: &Type) {
        let dice = match self.richness {
            Richness::Random | Richness::Full => self.dice.next(),
            Richness::Twins => self.dice.next() % 2,
            Richness::Empty => 0,
        };
        match ty {
            Type::Bool => self.put(&[(dice & 1) as u8]),
            Type::I8 => self.put(&[dice as u8]),
            Type::I16 | Type::U16 => self.put(&(dice as u16).to_be_bytes()),
            Type::I32 | Type::U32 => self.put(&(dice as u32).to_be_bytes()),
            Type::I64 => self.put(&dice.to_be_bytes()),
            Type::F64 => self.put(&(dice as u32 as f64 / 7.0).to_be_bytes()),
            Type::Uuid => {
                self.put(&dice.to_be_bytes());
                self.put(&dice.wrapping_mul(31).to_be_bytes());
            }
            Type::String => self.text(),
            Type::Bytes => self.block(200),
            Type::Records => self.block(3_000),
            Type::Struct(name) => self.write_struct(self.message.find(name), true),
            Type::Array(element) => {
                let count = match self.richness {
                    Richness::Full => 1 + self.dice.below(2),
                    Richness::Random => self.dice.below(4),
                    Richness::Twins => 2,
                    Richness::Empty => 0,
                };
                self.length(Width::Four, Some(count));
                let twin = self.dice.clone();
                for _ in 0..count {
                    if self.richness == Richness::Twins {
                        self.dice = twin.clone();
                    }
                    self.value(element);
                }
            }
        }
    }

    fn text(&mut self) {
        let longest = if self.dice.once_in(20) { 300 } else { 12 };
        let letters = ['a', 'Z', '0', '-', '.', '_', 'é', '→', '🦀'];
        let chars = 1 + self.dice.below(longest);
        let mut text: String = (0..chars)
            .map(|_| letters[self.dice.below(letters.len())])
            .collect();
        match self.richness {
            Richness::Random if self.dice.once_in(10) => text.clear(),
            Richness::Empty => text.clear(),
            Richness::Twins => "t".clone_into(&mut text),
            _ => {}
        }
        self.length(Width::Two, Some(text.len()));
        self.put(text.as_bytes());
    }

    fn block(&mut self, longest: usize) {
        let len = match self.richness {
            Richness::Full | Richness::Twins => 1 + self.dice.below(30),
            Richness::Empty => 0,
            Richness::Random => self.dice.below(longest),
        };
        self.length(Width::Four, Some(len));
        let first = self.dice.next() as u8;
        let block: Vec<u8> = (0..len).map(|i| first.wrapping_add(i as u8)).collect();
        self.put(&block);
    }
}
