//! The tree as a serde source, so that `raw`'s types are plain derives. Carries places along (`At`).
//!
//! Three liberties that plain serde has not: a text where a struct is expected stands for its first field (`gpt: openai/gpt`
//! for `gpt: {target: openai/gpt}`), a single value where a `OneOrMany` is expected is a list of one, and nothing (`ollama:`)
//! is an empty map. Which of them a key allows says its schema (`shape` checks it before).

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::{BoolDeserializer, BorrowedStrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::error::{Place, quote};
use super::tree::{Key, Node, Origin, Text, Value};

const AT: &str = "$at";
const ONE_OR_MANY: &str = "$one_or_many";

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    pub place: Place,
    pub origin: Origin,
}

/// A value, or a list of them.
#[derive(Debug, Clone)]
pub struct OneOrMany<T>(pub Vec<T>);

/// A map in the order of the file, with the places of its keys.
#[derive(Debug, Clone)]
pub struct Map<T>(pub Vec<(At<String>, T)>);

pub(super) fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Failure> {
    T::deserialize(Source(node))
}

/// Why a tree does not fit a type. `shape` has found all of these before, in better words.
#[derive(Debug)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure(message.to_string())
    }

    /// serde would quote the value, which may be a secret.
    fn invalid_value(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Failure(format!("expected {expected}"))
    }

    fn invalid_type(_: serde::de::Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Failure(format!("expected {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Failure(format!("expected one of {}", expected.join(", ")))
    }
}

// === impl At ===

impl<T> At<T> {
    /// A value that no file holds.
    pub(super) fn nowhere(value: T) -> Self {
        At { value, place: Place::default(), origin: Origin::Environment }
    }
}

impl At<String> {
    /// The text for an error message; one from the environment stays unsaid.
    pub(super) fn quoted(&self) -> String {
        match self.origin {
            Origin::File => quote(&self.value),
            Origin::Environment => "the value from the environment".to_owned(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<T>, A::Error> {
                let missing = || A::Error::custom("a value with its place");
                let line = seq.next_element()?.ok_or_else(missing)?;
                let column = seq.next_element()?.ok_or_else(missing)?;
                let foreign: bool = seq.next_element()?.ok_or_else(missing)?;
                let value = seq.next_element()?.ok_or_else(missing)?;
                let origin = if foreign { Origin::Environment } else { Origin::File };
                Ok(At { value, place: Place { line, column }, origin })
            }
        }
        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ManyVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany(items))
            }
        }
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, ManyVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Map<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
            type Value = Map<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Map(entries))
            }
        }
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

impl<T> Default for Map<T> {
    fn default() -> Self {
        Map(Vec::new())
    }
}

// A place is no part of the schema.
impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Map_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        schemars::json_schema!({"type": "object", "additionalProperties": value})
    }
}

// === the serde source ===

#[derive(Clone, Copy)]
struct Source<'de>(&'de Node);

impl<'de> Source<'de> {
    fn text(self, expected: &str) -> Result<&'de Text, Failure> {
        match &self.0.value {
            Value::Text(text) => Ok(text),
            Value::Null | Value::List(_) | Value::Map(_) => Err(Failure(format!("expected {expected}"))),
        }
    }

    fn parse<T: std::str::FromStr>(self, expected: &str) -> Result<T, Failure> {
        self.text(expected)?.text.parse().map_err(|_| Failure(format!("expected {expected}")))
    }
}

macro_rules! number {
    ($($method:ident $visit:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            visitor.$visit(self.parse("a number")?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Source<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Text(text) => visitor.visit_borrowed_str(&text.text),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_bool(self.parse("true or false")?)
    }

    number!(deserialize_u16 visit_u16, deserialize_u32 visit_u32, deserialize_u64 visit_u64);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            Value::Text(_) | Value::List(_) | Value::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, v: V) -> Result<V::Value, Failure> {
        match (name, &self.0.value) {
            (AT, value) => {
                let foreign = matches!(value, Value::Text(Text { origin: Origin::Environment, .. }));
                v.visit_seq(Located { place: self.0.place, foreign, inner: self, step: 0 })
            }
            (ONE_OR_MANY, Value::Text(_) | Value::Map(_)) => v.visit_seq(Items(std::slice::from_ref(self.0).iter())),
            (ONE_OR_MANY, Value::Null | Value::List(_)) => self.deserialize_seq(v),
            (_, _) => v.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Null => visitor.visit_seq(Items([].iter())),
            Value::Text(_) | Value::List(_) | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.0.value {
            Value::Null => visitor.visit_map(Entries { entries: [].iter(), value: None }),
            Value::Text(_) | Value::List(_) | Value::Map(_) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match (&self.0.value, fields.first()) {
            (Value::Text(_), Some(field)) => visitor.visit_map(Short { field: Some(field), node: self }),
            (Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_), _) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_enum(self.text("a word")?.text.as_str().into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

/// Line, column, whether from the environment, and the value itself: what `At` reads.
struct Located<D> {
    place: Place,
    foreign: bool,
    inner: D,
    step: u8,
}

impl<'de, D: Deserializer<'de, Error = Failure> + Copy> SeqAccess<'de> for Located<D> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(U32Deserializer::new(self.place.line)).map(Some),
            2 => seed.deserialize(U32Deserializer::new(self.place.column)).map(Some),
            3 => seed.deserialize(BoolDeserializer::new(self.foreign)).map(Some),
            4 => seed.deserialize(self.inner).map(Some),
            _ => Ok(None),
        }
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        self.0.next().map(|node| seed.deserialize(Source(node))).transpose()
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(KeySource(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        match self.value.take() {
            Some(value) => seed.deserialize(Source(value)),
            None => Err(Failure("a value without its key".to_owned())),
        }
    }
}

/// A text as a map with one entry.
struct Short<'de> {
    field: Option<&'static str>,
    node: Source<'de>,
}

impl<'de> MapAccess<'de> for Short<'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.field.take().map(|field| seed.deserialize(BorrowedStrDeserializer::new(field))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        seed.deserialize(self.node)
    }
}

#[derive(Clone, Copy)]
struct KeySource<'de>(&'de Key);

impl<'de> Deserializer<'de> for KeySource<'de> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_borrowed_str(&self.0.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, v: V) -> Result<V::Value, Failure> {
        if name == AT {
            v.visit_seq(Located { place: self.0.place, foreign: false, inner: self, step: 0 })
        } else {
            v.visit_newtype_struct(self)
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}
