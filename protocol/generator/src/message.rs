//! Writes the Rust of one message: structs, defaults, decode and encode.

use crate::model::{Field, Kind, Message, Shape, Struct, Type};
use crate::text::{Text, WIDTH, condition, versions_note};

/// The file of a message.
pub(crate) fn emit(message: &Message, shapes: &[Shape]) -> String {
    let mut text = Text::default();
    head(&mut text, message);
    for s in &message.structs {
        definition(&mut text, message, s);
        default(&mut text, message, s);
        codec(&mut text, message, s);
    }
    if message.kind == Kind::Request {
        let owner = shapes.iter().find(|shape| owns(shape, message));
        let api = owner.and_then(|shape| shape.api.as_ref());
        let api = &api.expect("a request belongs to an api").name;
        text.blank();
        text.line(format!("impl Request for {} {{", message.name));
        text.line(format!("const API: ApiKey = ApiKey::{api};"));
        text.line(format!("type Response = {api}Response;"));
        text.line("}");
    }
    text.finish()
}

fn owns(shape: &Shape, message: &Message) -> bool {
    shape.messages.iter().any(|m| m.name == message.name)
}

/// Module documentation and imports.
fn head(text: &mut Text, message: &Message) {
    let (min, max) = (message.versions.min, message.versions.max);
    let flexible = match message.flexible_from {
        None => "never flexible".to_owned(),
        Some(from) if from <= min => "always flexible".to_owned(),
        Some(from) => format!("flexible from version {from}"),
    };
    text.line(format!(
        "//! {}, versions {min} to {max}, {flexible}.",
        message.name
    ));
    text.line("//!");
    text.line("//! Generated from `protocol/shapes` by `cargo run -p flumen-protocol-generator`; edit the shape.");
    text.blank();
    let uses = |wanted: &dyn Fn(&Type) -> bool| {
        let mut fields = message.structs.iter().flat_map(|s| &s.fields);
        fields.any(|f| holds(&f.ty, wanted))
    };
    if uses(&|ty| *ty == Type::Bytes) {
        text.line("use bytes::Bytes;");
        text.blank();
    }
    let request = message.kind == Kind::Request;
    if request {
        text.line("use crate::api::ApiKey;");
    }
    let mut names = vec!["DecodeError", "EncodeError", "Message", "Reader"];
    names.extend(request.then_some("Request"));
    names.extend(message.flexible_from.map(|_| "TaggedFields"));
    names.extend((message.structs.len() > 1).then_some("Wire"));
    names.push("Writer");
    let names = names.join(", ");
    if names.len() + "use crate::codec::{};".len() + 1 < WIDTH {
        text.line(format!("use crate::codec::{{{names}}};"));
    } else {
        text.line("use crate::codec::{");
        text.line(format!("{names},"));
        text.line("};");
    }
    if uses(&|ty| *ty == Type::Uuid) {
        text.line("use crate::id::TopicId;");
    }
    if request {
        let response = message.name.replace("Request", "Response");
        text.line(format!("use crate::message::{response};"));
    }
    if uses(&|ty| *ty == Type::Records) {
        text.line("use crate::segment::Records;");
    }
}

/// Whether a type or its elements are what is wanted.
fn holds(ty: &Type, wanted: &dyn Fn(&Type) -> bool) -> bool {
    match ty {
        Type::Array(element) => wanted(ty) || holds(element, wanted),
        _ => wanted(ty),
    }
}

/// The struct itself.
fn definition(text: &mut Text, message: &Message, s: &Struct) {
    text.blank();
    struct_doc(text, message, s);
    let natural = s.fields.iter().all(has_natural_default);
    let derives = match natural {
        true => "Clone, Debug, Default, PartialEq",
        false => "Clone, Debug, PartialEq",
    };
    text.line(format!("#[derive({derives})]"));
    text.line(format!("pub struct {} {{", s.name));
    for field in &s.fields {
        text.doc(&field.doc);
        if let Some(note) = versions_note(field, message.versions) {
            if !field.doc.is_empty() {
                text.line("///");
            }
            text.line(format!("/// {note}"));
        }
        text.line(format!("pub {}: {},", ident(field), rust_type(field)));
    }
    if message.flexible_from.is_some() {
        text.line("/// Tagged fields that this build does not know; kept for a round trip.");
        text.line("pub unknown_tagged_fields: TaggedFields,");
    }
    text.line("}");
}

fn struct_doc(text: &mut Text, message: &Message, s: &Struct) {
    if s.name == message.name {
        let what = match message.kind {
            Kind::Request => "the request",
            Kind::Response => "the response",
            Kind::Data => "the message",
        };
        text.line(format!("/// {}: {what}.", message.name));
        if !s.doc.is_empty() {
            text.line("///");
            text.doc(&s.doc);
        }
        return;
    }
    let named_by = |f: &&Field| holds(&f.ty, &|ty| *ty == Type::Struct(s.name.clone()));
    let parents = message.structs.iter();
    let mut parents = parents.filter_map(|p| p.fields.iter().find(named_by).map(|f| (p, f)));
    let (parent, field) = parents.next().expect("every struct is named by a field");
    text.line(format!(
        "/// Held by [`{}`] as `{}`.",
        parent.name, field.name
    ));
    if !field.doc.is_empty() {
        text.line("///");
        text.doc(&field.doc);
    }
}

fn rust_type(field: &Field) -> String {
    let plain = plain_type(&field.ty);
    match field.nullable.is_some() || field.ty == Type::Records {
        true => format!("Option<{plain}>"),
        false => plain,
    }
}

fn plain_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".to_owned(),
        Type::I8 => "i8".to_owned(),
        Type::I16 => "i16".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::I32 => "i32".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::I64 => "i64".to_owned(),
        Type::F64 => "f64".to_owned(),
        Type::String => "String".to_owned(),
        Type::Bytes => "Bytes".to_owned(),
        Type::Records => "Records".to_owned(),
        Type::Uuid => "TopicId".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", plain_type(element)),
    }
}

/// Whether Rust's `Default` is the field's default.
fn has_natural_default(field: &Field) -> bool {
    match (&field.default, field.nullable) {
        _ if field.ty == Type::Records => true,
        (Some(default), _) => default == "null",
        (None, nullable) => nullable.is_none(),
    }
}

/// The field's default as an expression.
fn default_value(field: &Field) -> String {
    if field.ty == Type::Records || field.default.as_deref() == Some("null") {
        return "None".to_owned();
    }
    let plain = match (&field.ty, &field.default) {
        (Type::String, Some(text)) => format!("{text}.to_owned()"),
        (Type::String, None) => "String::new()".to_owned(),
        (_, Some(number)) => number.clone(),
        (Type::Bool, None) => "false".to_owned(),
        (Type::F64, None) => "0.0".to_owned(),
        (Type::Bytes, None) => "Bytes::new()".to_owned(),
        (Type::Uuid, None) => "TopicId::NIL".to_owned(),
        (Type::Struct(name), None) => format!("{name}::default()"),
        (Type::Array(_), None) => "Vec::new()".to_owned(),
        (_, None) => "0".to_owned(),
    };
    match field.nullable {
        Some(_) => format!("Some({plain})"),
        None => plain,
    }
}

/// The name of a field in Rust: Kafka's, unless it is a keyword.
fn ident(field: &Field) -> String {
    match field.name.as_str() {
        "match" | "type" => format!("{}_", field.name),
        name => name.to_owned(),
    }
}

/// `impl Default`, where it cannot be derived.
fn default(text: &mut Text, message: &Message, s: &Struct) {
    if s.fields.iter().all(has_natural_default) {
        return;
    }
    text.blank();
    text.line(format!("impl Default for {} {{", s.name));
    text.line("fn default() -> Self {");
    let fields = s.fields.iter();
    let mut values: Vec<String> = fields
        .map(|f| format!("{}: {}", ident(f), default_value(f)))
        .collect();
    if message.flexible_from.is_some() {
        values.push("unknown_tagged_fields: TaggedFields::new()".to_owned());
    }
    if let [one] = values.as_slice()
        && one.len() <= 18
    {
        text.line(format!("Self {{ {one} }}"));
    } else {
        text.line("Self {");
        for value in values {
            text.line(format!("{value},"));
        }
        text.line("}");
    }
    text.line("}");
    text.line("}");
}

/// Decode and encode: of a message, or of a struct within it.
fn codec(text: &mut Text, message: &Message, s: &Struct) {
    text.blank();
    let top = s.name == message.name;
    if top {
        text.line(format!("impl Message for {} {{", s.name));
        message_facts(text, message);
        text.line("fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {");
        text.line("r.begin::<Self>(version)?;");
    } else {
        text.line(format!("impl Wire for {} {{", s.name));
        let sizes = s.versions.iter().map(|v| message.struct_size(s, v));
        let size = sizes.min().unwrap_or(1).max(1);
        text.line(format!("const MIN_SIZE: usize = {size};"));
        text.blank();
        let version = match uses_version(message, s) {
            true => "version",
            false => "_",
        };
        text.line(format!(
            "fn read(r: &mut Reader, _: &'static str, {version}: i16) -> Result<Self, DecodeError> {{"
        ));
    }
    text.line("let mut it = Self::default();");
    for field in s.fields.iter().filter(|f| f.tag.is_none()) {
        read_field(text, s, field);
    }
    read_tags(text, message, s);
    text.line("Ok(it)");
    text.line("}");
    text.blank();
    if top {
        text.line("fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {");
        text.line("w.begin::<Self>(version)?;");
    } else {
        let version = match uses_version(message, s) {
            true => "version",
            false => "_",
        };
        text.line(format!(
            "fn write(&self, w: &mut Writer, _: &'static str, {version}: i16) -> Result<(), EncodeError> {{"
        ));
    }
    for field in s.fields.iter().filter(|f| f.tag.is_none()) {
        write_field(text, s, field);
    }
    write_tags(text, message, s);
    text.line("Ok(())");
    text.line("}");
    text.line("}");
}

fn message_facts(text: &mut Text, message: &Message) {
    text.line(format!("const NAME: &'static str = \"{}\";", message.name));
    text.line(format!(
        "const MIN_VERSION: i16 = {};",
        message.versions.min
    ));
    text.line(format!(
        "const MAX_VERSION: i16 = {};",
        message.versions.max
    ));
    text.blank();
    let (argument, answer) = match message.flexible_from {
        None => ("_", "false".to_owned()),
        Some(from) if from <= message.versions.min => ("_", "true".to_owned()),
        Some(from) => ("version", format!("version >= {from}")),
    };
    text.line(format!("fn is_flexible({argument}: i16) -> bool {{"));
    text.line(answer);
    text.line("}");
    text.blank();
}

/// Whether the code of a struct looks at the version.
fn uses_version(message: &Message, s: &Struct) -> bool {
    let nested = |ty: &Type| matches!(ty, Type::Array(_) | Type::Struct(_));
    let field = |f: &Field| {
        f.versions != s.versions
            || f.nullable.is_some_and(|n| n != f.versions)
            || holds(&f.ty, &nested)
    };
    s.fields.iter().any(field)
        || (message.is_flexible(s.versions.max) && !message.is_flexible(s.versions.min))
}

/// Opens `if`, where the field is not in every version of its struct; returns whether it did.
fn open_condition(text: &mut Text, s: &Struct, field: &Field) -> bool {
    let condition = condition(field.versions, s.versions);
    if let Some(condition) = &condition {
        text.line(format!("if {condition} {{"));
    }
    condition.is_some()
}

fn read_field(text: &mut Text, s: &Struct, field: &Field) {
    let rust = ident(field);
    let conditional = open_condition(text, s, field);
    match field.nullable {
        Some(range) if range != field.versions => {
            let condition = condition(range, field.versions).expect("not all versions");
            text.line(format!("it.{rust} = if {condition} {{"));
            text.line(read(field, true));
            text.line("} else {");
            text.line(format!("Some({})", read(field, false)));
            text.line("};");
        }
        nullable => text.line(format!("it.{rust} = {};", read(field, nullable.is_some()))),
    }
    if conditional {
        text.line("}");
    }
}

/// The expression that reads a field.
fn read(field: &Field, nullable: bool) -> String {
    let name = &field.name;
    let prefix = if nullable { "nullable_" } else { "" };
    match &field.ty {
        Type::Array(_) => format!("r.{prefix}array(\"{name}\", version)?"),
        Type::Struct(_) if nullable => format!("r.nullable_struct(\"{name}\", version)?"),
        Type::Struct(ty) => format!("{ty}::read(r, \"{name}\", version)?"),
        Type::Records => format!("r.records(\"{name}\")?"),
        ty => format!("r.{prefix}{}(\"{name}\")?", method(ty)),
    }
}

fn method(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::I8 => "i8",
        Type::I16 => "i16",
        Type::U16 => "u16",
        Type::I32 => "i32",
        Type::U32 => "u32",
        Type::I64 => "i64",
        Type::F64 => "f64",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Records => "records",
        Type::Uuid => "uuid",
        Type::Struct(_) | Type::Array(_) => unreachable!("handled by the caller"),
    }
}

/// The condition for "this version has tagged fields", if that is a question. The outer `None`: it has none.
fn flexible_condition(message: &Message, s: &Struct) -> Option<Option<String>> {
    let from = message.flexible_from?;
    if from > s.versions.max {
        return None;
    }
    Some((from > s.versions.min).then(|| format!("version >= {from}")))
}

fn tagged(s: &Struct) -> Vec<&Field> {
    let mut fields: Vec<&Field> = s.fields.iter().filter(|f| f.tag.is_some()).collect();
    fields.sort_by_key(|f| f.tag);
    fields
}

fn read_tags(text: &mut Text, message: &Message, s: &Struct) {
    let Some(condition) = flexible_condition(message, s) else {
        return;
    };
    if let Some(condition) = &condition {
        text.line(format!("if {condition} {{"));
    }
    let fields = tagged(s);
    if fields.is_empty() {
        text.line("it.unknown_tagged_fields = r.unknown_tags()?;");
    } else {
        text.line("for _ in 0..r.tag_count()? {");
        text.line("let tag = r.tag()?;");
        text.line("match tag.number {");
        let flexible = s.versions.min.max(message.flexible_from.unwrap_or(0));
        for field in fields {
            let guard = match field.versions.min > flexible {
                true => format!(" if version >= {}", field.versions.min),
                false => String::new(),
            };
            let value = read(field, field.nullable.is_some());
            let number = field.tag.expect("a tagged field has a tag");
            arm(
                text,
                &format!("{number}{guard} => it.{} =", ident(field)),
                &value,
            );
        }
        text.line("_ => r.keep_tag(tag, &mut it.unknown_tagged_fields)?,");
        text.line("}");
        text.line("r.end_tag(tag)?;");
        text.line("}");
    }
    if condition.is_some() {
        text.line("}");
    }
}

/// One arm of the match over tags.
fn arm(text: &mut Text, pattern: &str, value: &str) {
    // a space between, a comma behind
    if text.indent() + pattern.len() + value.len() + 2 < WIDTH {
        return text.line(format!("{pattern} {value},"));
    }
    let (pattern, place) = pattern.split_once(" => ").expect("an arm has an arrow");
    text.line(format!("{pattern} => {{"));
    text.line(format!("{place} {value}"));
    text.line("}");
}

fn write_field(text: &mut Text, s: &Struct, field: &Field) {
    let conditional = open_condition(text, s, field);
    match field.nullable {
        Some(range) if range != field.versions => {
            let condition = condition(range, field.versions).expect("not all versions");
            text.line(format!("if {condition} {{"));
            write(text, field, true);
            text.line("} else {");
            write(text, field, false);
            text.line("}");
        }
        _ => write(text, field, true),
    }
    if conditional {
        close_condition(text, field);
    }
}

/// Closes the `if` of a field: where the version lacks it and its value matters, a value is an error.
fn close_condition(text: &mut Text, field: &Field) {
    if !field.ignorable {
        text.line(format!("}} else if {} {{", is_set(field)));
        text.line(format!(
            "return Err(w.unsupported(\"{}\", version));",
            field.name
        ));
    }
    text.line("}");
}

/// The statement that writes a field.
fn write(text: &mut Text, field: &Field, may_be_null: bool) {
    let rust = ident(field);
    let name = &field.name;
    let nullable = field.nullable.is_some();
    let prefix = if nullable && may_be_null {
        "nullable_"
    } else {
        ""
    };
    let value = match (nullable, may_be_null, &field.ty) {
        (true, false, _) => format!("w.present(\"{name}\", &self.{rust})?"),
        (true, true, Type::String) => format!("self.{rust}.as_deref()"),
        _ => format!("&self.{rust}"),
    };
    match &field.ty {
        Type::Array(_) => call(
            text,
            &format!("w.{prefix}array"),
            &[&format!("\"{name}\""), &value, "version"],
            "?;",
        ),
        Type::Struct(_) if nullable => call(
            text,
            "w.nullable_struct",
            &[&format!("\"{name}\""), &value, "version"],
            "?;",
        ),
        Type::Struct(_) => text.line(format!("self.{rust}.write(w, \"{name}\", version)?;")),
        Type::String | Type::Bytes => call(
            text,
            &format!("w.{prefix}{}", method(&field.ty)),
            &[&format!("\"{name}\""), &value],
            "?;",
        ),
        Type::Records => text.line(format!("w.records(\"{name}\", &self.{rust})?;")),
        ty => text.line(format!("w.{}(self.{rust});", method(ty))),
    }
}

/// A call, on one line if its arguments take at most 60 columns.
fn call(text: &mut Text, function: &str, arguments: &[&str], end: &str) {
    let joined = arguments.join(", ");
    if joined.len() <= 60 {
        return text.line(format!("{function}({joined}){end}"));
    }
    text.line(format!("{function}("));
    for argument in arguments {
        text.line(format!("    {argument},"));
    }
    text.line(format!("){end}"));
}

/// Whether a field differs from its default.
fn is_set(field: &Field) -> String {
    let rust = ident(field);
    let null = field.default.as_deref() == Some("null") || field.ty == Type::Records;
    if null {
        return format!("self.{rust}.is_some()");
    }
    if field.nullable.is_some() {
        return format!("self.{rust}.as_ref().is_none_or(|it| !it.is_empty())");
    }
    match (&field.ty, &field.default) {
        (Type::Bool, Some(value)) if value == "true" => format!("!self.{rust}"),
        (Type::Bool, _) => format!("self.{rust}"),
        (Type::String, Some(text)) => format!("self.{rust} != {text}"),
        (Type::String | Type::Bytes | Type::Array(_), None) => format!("!self.{rust}.is_empty()"),
        (Type::Struct(_), _) => format!("self.{rust} != {}", default_value(field)),
        _ => format!("self.{rust} != {}", default_value(field)),
    }
}

fn write_tags(text: &mut Text, message: &Message, s: &Struct) {
    let Some(condition) = flexible_condition(message, s) else {
        return;
    };
    if let Some(condition) = &condition {
        text.line(format!("if {condition} {{"));
    }
    let flexible = s.versions.min.max(message.flexible_from.unwrap_or(0));
    let fields = tagged(s);
    let present = |f: &Field| match f.versions.min > flexible {
        true => format!("version >= {} && {}", f.versions.min, is_set(f)),
        false => is_set(f),
    };
    if fields.is_empty() {
        text.line("w.tag_count(0, &self.unknown_tagged_fields);");
        text.line("w.unknown_tags(&self.unknown_tagged_fields, 0)?;");
    } else {
        for field in &fields {
            text.line(format!("let has_{} = {};", field.name, present(field)));
        }
        text.line("let mut set = 0;");
        for field in &fields {
            text.line(format!("set += u32::from(has_{});", field.name));
        }
        text.line("w.tag_count(set, &self.unknown_tagged_fields);");
        for field in &fields {
            let number = field.tag.expect("a tagged field has a tag");
            text.line(format!("if has_{} {{", field.name));
            text.line(format!("let tag = w.begin_tag({number});"));
            write(text, field, true);
            text.line("w.end_tag(tag);");
            text.line("}");
        }
        let sometimes = fields.iter().any(|f| f.versions.min > flexible);
        if sometimes {
            text.line("let mut known = 0;");
            for field in &fields {
                match field.versions.min > flexible {
                    true => {
                        text.line(format!(
                            "known += u32::from(version >= {});",
                            field.versions.min
                        ));
                    }
                    false => text.line("known += 1;"),
                }
            }
            text.line("w.unknown_tags(&self.unknown_tagged_fields, known)?;");
        } else {
            let known = fields.len();
            text.line(format!(
                "w.unknown_tags(&self.unknown_tagged_fields, {known})?;"
            ));
        }
    }
    if condition.is_some() {
        text.line("}");
    }
    refuse_tags(text, s, &fields);
}

/// A tagged field that is set in a version without it, where its value matters, is an error.
fn refuse_tags(text: &mut Text, s: &Struct, fields: &[&Field]) {
    let matters = |f: &&&Field| !f.ignorable && f.versions.min > s.versions.min;
    for field in fields.iter().filter(matters) {
        let (name, min) = (&field.name, field.versions.min);
        text.line(format!("if version < {min} && {} {{", is_set(field)));
        text.line(format!("return Err(w.unsupported(\"{name}\", version));"));
        text.line("}");
    }
}
