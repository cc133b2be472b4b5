//! The scan of one object's members.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::scan::{Fault, MAX_MEMBERS, Object};

/// What our scan accepts serde_json reads the same: the same names, the same bytes for each value. What it refuses serde_json
/// refuses too, but for what we refuse on purpose: a name twice, more depth or members than we allow.
pub fn json_scan(data: &[u8]) {
    let read = serde_json::from_slice::<Members<'_>>(data);
    match (Object::scan(data), read) {
        (Ok(object), Ok(Members(members))) => {
            let ours: Vec<(&str, &str)> =
                object.members.iter().map(|m| (&*m.name, object.text.get(m.value.clone()).expect("a span"))).collect();
            let theirs: Vec<(&str, &str)> = members.iter().map(|(name, value)| (&**name, value.get())).collect();
            assert_eq!(ours, theirs);
            let names: HashSet<&str> = ours.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), ours.len(), "the same name twice");
        }
        (Ok(_), Err(error)) => panic!("accepted, and serde_json says: {error}"),
        (Err(error), Ok(Members(members))) => match error.what {
            Fault::Duplicate(name) => assert!(members.iter().filter(|(n, _)| *n == name).count() > 1, "{name}"),
            Fault::TooDeep => assert!(data.iter().filter(|b| matches!(b, b'{' | b'[')).count() > 100),
            Fault::TooManyMembers => assert!(members.len() > MAX_MEMBERS),
            what => panic!("refused for {what:?}, and serde_json accepts it"),
        },
        (Err(_), Err(_)) => {}
    }
}

/// Every member of an object, in order, doubles too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}
