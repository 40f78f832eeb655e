//! What a shape says, as data. Filled by `parse.rs`, read by the emitters and by tests that make
//! messages from shapes.

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Oldest.
    pub min: i16,
    /// Newest.
    pub max: i16,
}

impl Versions {
    /// Whether `version` is in the range.
    pub fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// All versions of the range, oldest first.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }
}

/// One shape file: an API with its two messages, or some data messages.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Name of the file.
    pub file: String,
    /// The API, if it is one.
    pub api: Option<Api>,
    /// Request and response, or data.
    pub messages: Vec<Message>,
}

/// Name and key of an API.
#[derive(Clone, Debug)]
pub struct Api {
    /// Kafka's name: `Fetch`.
    pub name: String,
    /// Kafka's key.
    pub key: i16,
    /// What ApiVersions says where that is not the range of the messages.
    pub advertised: Option<Versions>,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sent by a client.
    Request,
    /// Sent by a broker.
    Response,
    /// Inside another message or a record.
    Data,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request, response or data.
    pub kind: Kind,
    /// Kafka's name: `FetchRequest`.
    pub name: String,
    /// Its versions.
    pub versions: Versions,
    /// First flexible version.
    pub flexible_from: Option<i16>,
    /// Its structs; the first is the message itself.
    pub structs: Vec<Struct>,
}

impl Message {
    /// Whether `version` has compact lengths and tagged fields.
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    /// The struct of that name.
    ///
    /// # Panics
    /// If there is none: the parser has checked all names.
    pub fn find(&self, name: &str) -> &Struct {
        let found = self.structs.iter().find(|s| s.name == name);
        found.expect("the parser checks that every struct is defined")
    }

    /// Fewest bytes of a struct in `version`.
    pub fn struct_size(&self, s: &Struct, version: i16) -> usize {
        let fields = s.fields.iter();
        let sizes = fields
            .filter(|f| f.tag.is_none() && f.versions.contains(version))
            .map(|f| self.field_size(f, version));
        sizes.sum::<usize>() + usize::from(self.is_flexible(version))
    }

    fn field_size(&self, field: &Field, version: i16) -> usize {
        let flexible = self.is_flexible(version);
        match &field.ty {
            Type::Bool | Type::I8 => 1,
            Type::I16 | Type::U16 => 2,
            Type::I32 | Type::U32 => 4,
            Type::I64 | Type::F64 => 8,
            Type::Uuid => 16,
            Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
            Type::String => 2,
            Type::Bytes | Type::Records | Type::Array(_) => 4,
            Type::Struct(_) if field.nullable.is_some() => 1,
            Type::Struct(name) => self.struct_size(self.find(name), version),
        }
    }
}

/// A struct: fields in the order of the wire.
#[derive(Clone, Debug)]
pub struct Struct {
    /// Its name.
    pub name: String,
    /// What it is, as lines.
    pub doc: Vec<String>,
    /// The versions that can contain it.
    pub versions: Versions,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// A field.
#[derive(Clone, Debug)]
pub struct Field {
    /// Kafka's name in snake case.
    pub name: String,
    /// What it is, as lines.
    pub doc: Vec<String>,
    /// Its type.
    pub ty: Type,
    /// The versions that have it.
    pub versions: Versions,
    /// The versions in which it may be null.
    pub nullable: Option<Versions>,
    /// Its number, if it is a tagged field.
    pub tag: Option<u32>,
    /// What it holds unless set, as written in the shape: a number, `true`, `null` or quoted text.
    pub default: Option<String>,
    /// Whether a version without it may drop its value.
    pub ignorable: bool,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// One byte.
    Bool,
    /// One byte.
    I8,
    /// Two bytes.
    I16,
    /// Two bytes.
    U16,
    /// Four bytes.
    I32,
    /// Four bytes.
    U32,
    /// Eight bytes.
    I64,
    /// Eight bytes.
    F64,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// Record batches.
    Records,
    /// Sixteen bytes.
    Uuid,
    /// A struct of the same message.
    Struct(String),
    /// An array.
    Array(Box<Type>),
}

/// `FetchRequest` → `fetch_request`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
