//! Reads the notation of shapes (see the head of the crate). Knows nothing of Rust.

use crate::model::{Api, Field, Kind, Message, Shape, Struct, Type, Versions, snake_case};

/// A line that is not in the notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ParseError {}

type Outcome<T> = Result<T, String>;

/// Reads one shape file; `file` is its name.
///
/// # Errors
/// The first line that is not in the notation.
pub fn parse(file: &str, text: &str) -> Result<Shape, ParseError> {
    let mut parser = Parser::default();
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        parser.line(line).map_err(|problem| ParseError {
            line: last,
            problem,
        })?;
    }
    parser.finish(file).map_err(|problem| ParseError {
        line: last,
        problem,
    })
}

/// A struct whose fields may follow: how deep they are indented, which struct of the message it is.
struct Open {
    indent: usize,
    index: usize,
}

#[derive(Default)]
struct Parser {
    api: Option<Api>,
    messages: Vec<Message>,
    doc: Vec<String>,
    open: Vec<Open>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Outcome<()> {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.is_empty() {
            return Ok(());
        }
        if let Some(doc) = content.strip_prefix('#') {
            self.doc
                .push(doc.strip_prefix(' ').unwrap_or(doc).to_owned());
            return Ok(());
        }
        if !indent.is_multiple_of(2) {
            return Err("indent by two spaces".to_owned());
        }
        let words: Vec<&str> = content.split_whitespace().collect();
        match (indent, words[0]) {
            (0, "api") => self.api_line(&words),
            (0, "request" | "response" | "data") => self.message_line(&words),
            (0, _) => Err(format!("`{}` does not begin anything", words[0])),
            (2, "struct") => self.struct_line(&words),
            _ => self.field_line(indent, &words),
        }
    }

    fn api_line(&mut self, words: &[&str]) -> Outcome<()> {
        let [_, name, key, rest @ ..] = words else {
            return Err("api NAME KEY expected".to_owned());
        };
        let advertised = match rest {
            [] => None,
            ["advertise", range] => Some(versions(range, i16::MAX)?),
            _ => return Err(format!("`{}` is not expected here", rest.join(" "))),
        };
        let key = key.parse().map_err(|_| format!("`{key}` is not a key"))?;
        self.api = Some(Api {
            name: (*name).to_owned(),
            key,
            advertised,
        });
        Ok(())
    }

    fn message_line(&mut self, words: &[&str]) -> Outcome<()> {
        let (kind, name, rest) = match (words, &self.api) {
            (["request", rest @ ..], Some(api)) => {
                (Kind::Request, format!("{}Request", api.name), rest)
            }
            (["response", rest @ ..], Some(api)) => {
                (Kind::Response, format!("{}Response", api.name), rest)
            }
            (["data", name, rest @ ..], None) => (Kind::Data, (*name).to_owned(), rest),
            _ => return Err("requests and responses follow an api, data does not".to_owned()),
        };
        let (range, flexible_from) = match rest {
            [range] => (versions(range, i16::MAX)?, None),
            [range, "flexible", from] => {
                let range = versions(range, i16::MAX)?;
                (range, Some(versions(from, range.max)?.min))
            }
            _ => return Err("VERSIONS [flexible VERSIONS] expected".to_owned()),
        };
        self.messages.push(Message {
            kind,
            name: name.clone(),
            versions: range,
            flexible_from,
            structs: Vec::new(),
        });
        self.begin_struct(name, range, 2);
        Ok(())
    }

    fn struct_line(&mut self, words: &[&str]) -> Outcome<()> {
        let ([_, name], Some(message)) = (words, self.messages.last()) else {
            return Err("struct NAME within a message expected".to_owned());
        };
        let range = message.versions;
        self.open.truncate(1);
        self.begin_struct((*name).to_owned(), range, 4);
        Ok(())
    }

    fn begin_struct(&mut self, name: String, versions: Versions, indent: usize) {
        if indent == 2 {
            self.open.clear();
        }
        let message = self.messages.last_mut().expect("a message was begun");
        self.open.push(Open {
            indent,
            index: message.structs.len(),
        });
        message.structs.push(Struct {
            name,
            doc: std::mem::take(&mut self.doc),
            versions,
            fields: Vec::new(),
        });
    }

    fn field_line(&mut self, indent: usize, words: &[&str]) -> Outcome<()> {
        self.open.retain(|open| open.indent <= indent);
        let Some(&Open { indent: at, index }) = self.open.last() else {
            return Err("a field outside of a message".to_owned());
        };
        let message = self.messages.last_mut().expect("a message was begun");
        let around = message.structs[index].versions;
        if at != indent {
            // fields of the struct that the field above names
            let Some(above) = message.structs[index].fields.last() else {
                return Err("indented below nothing".to_owned());
            };
            let (Some(name), range) = (struct_name(&above.ty), above.versions) else {
                return Err(format!("{} holds no struct", above.name));
            };
            let name = name.to_owned();
            let doc = std::mem::take(&mut self.doc);
            self.begin_struct(name, range, indent);
            self.doc = doc;
            return self.field_line(indent, words);
        }
        let mut field = field(words, around)?;
        field.doc = std::mem::take(&mut self.doc);
        if message.flexible_from.is_none() && field.tag.is_some() {
            return Err("a tagged field needs flexible versions".to_owned());
        }
        message.structs[index].fields.push(field);
        Ok(())
    }

    fn finish(self, file: &str) -> Outcome<Shape> {
        for message in &self.messages {
            for field in message.structs.iter().flat_map(|s| &s.fields) {
                if let Some(name) = struct_name(&field.ty)
                    && !message.structs.iter().any(|s| s.name == name)
                {
                    return Err(format!("{}: no struct {name}", snake_case(&message.name)));
                }
            }
            for s in &message.structs {
                check_tags(s)?;
            }
        }
        Ok(Shape {
            file: file.to_owned(),
            api: self.api,
            messages: self.messages,
        })
    }
}

/// In every version the known tags are 0, 1, 2 …: what is kept as unknown comes behind them.
fn check_tags(s: &Struct) -> Outcome<()> {
    for version in s.versions.iter() {
        let tagged = s.fields.iter().filter(|f| f.versions.contains(version));
        let mut tags: Vec<u32> = tagged.filter_map(|f| f.tag).collect();
        tags.sort_unstable();
        if tags.iter().enumerate().any(|(i, tag)| i as u32 != *tag) {
            return Err(format!("{}: version {version} has tags {tags:?}", s.name));
        }
    }
    Ok(())
}

/// `name: type [versions] [tag n] [= default] [ignorable]`
fn field(words: &[&str], around: Versions) -> Outcome<Field> {
    let [name, ty, rest @ ..] = words else {
        return Err("NAME: TYPE expected".to_owned());
    };
    let Some(name) = name.strip_suffix(':') else {
        return Err(format!("`{name}` needs a colon"));
    };
    let (ty, nullable) = match ty.split_once('?') {
        None => (*ty, None),
        Some((ty, range)) => (ty, Some(range)),
    };
    let mut field = Field {
        name: name.to_owned(),
        doc: Vec::new(),
        ty: parse_type(ty)?,
        versions: around,
        nullable: None,
        tag: None,
        default: None,
        ignorable: false,
    };
    let mut rest = rest;
    loop {
        rest = match rest {
            [] => break,
            ["tag", tag, rest @ ..] => {
                field.tag = Some(tag.parse().map_err(|_| format!("`{tag}` is not a tag"))?);
                rest
            }
            ["=", default, rest @ ..] => {
                field.default = Some((*default).to_owned());
                rest
            }
            ["ignorable", rest @ ..] => {
                field.ignorable = true;
                rest
            }
            [range, rest @ ..] => {
                field.versions = versions(range, around.max)?;
                rest
            }
        };
    }
    if field.versions.min < around.min || field.versions.max > around.max {
        return Err(format!(
            "{name}: versions beyond those of the struct around"
        ));
    }
    field.nullable = match nullable {
        None => None,
        Some("") => Some(field.versions),
        Some(range) => Some(versions(range, field.versions.max)?),
    };
    Ok(field)
}

/// `3`, `3-5`, `3+` (to `newest`).
fn versions(text: &str, newest: i16) -> Outcome<Versions> {
    let number = |text: &str| {
        text.parse()
            .map_err(|_| format!("`{text}` is not a version"))
    };
    let (min, max) = match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(min), _) => (number(min)?, newest),
        (None, Some((min, max))) => (number(min)?, number(max)?),
        (None, None) => (number(text)?, number(text)?),
    };
    if min > max {
        return Err(format!("`{text}` is an empty range"));
    }
    Ok(Versions { min, max })
}

fn parse_type(text: &str) -> Outcome<Type> {
    if let Some(element) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return Ok(Type::Array(Box::new(parse_type(element)?)));
    }
    Ok(match text {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "u16" => Type::U16,
        "i32" => Type::I32,
        "u32" => Type::U32,
        "i64" => Type::I64,
        "f64" => Type::F64,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        "uuid" => Type::Uuid,
        name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Type::Struct(name.to_owned()),
        other => return Err(format!("`{other}` is not a type")),
    })
}

/// The struct that a type holds.
fn struct_name(ty: &Type) -> Option<&str> {
    match ty {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FETCH: &str = "\
api Fetch 1

# What it asks.
request 4-18 flexible 12+
  # Who.
  cluster_id: string? 12+ tag 0 = null ignorable
  topics: [Topic]
    name: string 4-12
    partitions: [i32] 7+
    cursor: Shared?9+ 7+
  after: bool = true
  struct Shared
    at: i64

response 4-18 flexible 12+
  error_code: i16
";

    #[test]
    fn a_shape_is_read_as_written() {
        let shape = parse("fetch.shape", FETCH).unwrap();
        let api = shape.api.unwrap();
        assert_eq!((api.name.as_str(), api.key), ("Fetch", 1));
        let [request, response] = shape.messages.as_slice() else {
            panic!("{:?}", shape.messages);
        };
        assert_eq!(response.name, "FetchResponse");
        assert_eq!(request.flexible_from, Some(12));
        let names: Vec<&str> = request.structs.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["FetchRequest", "Topic", "Shared"]);
        assert_eq!(request.structs[0].doc, ["What it asks."]);

        let cluster_id = &request.structs[0].fields[0];
        assert_eq!(cluster_id.doc, ["Who."]);
        assert_eq!(cluster_id.tag, Some(0));
        assert_eq!(cluster_id.versions, Versions { min: 12, max: 18 });
        assert_eq!(cluster_id.nullable, Some(cluster_id.versions));
        assert!(cluster_id.ignorable);
        let after = &request.structs[0].fields[2];
        assert_eq!(
            (after.name.as_str(), after.default.as_deref()),
            ("after", Some("true"))
        );
        let cursor = &request.structs[1].fields[2];
        assert_eq!(cursor.versions, Versions { min: 7, max: 18 });
        assert_eq!(cursor.nullable, Some(Versions { min: 9, max: 18 }));
    }

    #[test]
    fn the_smallest_size_follows_the_version() {
        let shape = parse("fetch.shape", FETCH).unwrap();
        let request = &shape.messages[0];
        let topic = request.find("Topic");
        // two bytes for the length of the name
        assert_eq!(request.struct_size(topic, 4), 2);
        // name, count of four bytes, presence byte
        assert_eq!(request.struct_size(topic, 11), 2 + 4 + 1);
        // one-byte lengths, presence byte, count of tagged fields
        assert_eq!(request.struct_size(topic, 12), 1 + 1 + 1 + 1);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse("x", text).unwrap_err().to_string(), expected);
        };
        check("api Fetch", "line 1: api NAME KEY expected");
        check(
            "request 1",
            "line 1: requests and responses follow an api, data does not",
        );
        check("data A 0-1\n  a: i31", "line 2: `i31` is not a type");
        check("data A 0-1\n  a: B", "line 2: a: no struct B");
        check(
            "data A 0-1\n  a: i32 5",
            "line 2: a: versions beyond those of the struct around",
        );
        check("data A 3-1", "line 1: `3-1` is an empty range");
        check("data A 0\n   a: i32", "line 2: indent by two spaces");
        check(
            "data A 0\n  a: i32\n    b: i32",
            "line 3: a holds no struct",
        );
        check(
            "data A 0\n  a: i32 tag 0",
            "line 2: a tagged field needs flexible versions",
        );
        check(
            "data A 0 flexible 0+\n  a: i32 tag 1",
            "line 2: A: version 0 has tags [1]",
        );
    }
}
