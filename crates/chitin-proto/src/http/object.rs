//! What is read from a JSON object alone. Serde would also take a list of the fields' values in the order in which the
//! struct has them, which nobody means and which would change its meaning with every new field.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A struct that only a JSON object becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

/// The same for a field that may be null.
pub(super) fn optional<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|object| object.0))
}

#[cfg(test)]
mod tests {
    use super::super::TaskRequest;
    use super::*;

    #[test]
    fn a_list_of_values_is_no_object() {
        for wrong in [r#"[["true"]]"#, r#"{"command": ["true"], "retry": [3]}"#] {
            let error = serde_json::from_str::<Object<TaskRequest>>(wrong).unwrap_err();
            assert!(
                error.to_string().starts_with("invalid type: sequence, expected a JSON object"),
                "{error}"
            );
        }
        for right in
            [r#"{"command": ["true"], "retry": {"max": 3}}"#, r#"{"command": ["true"], "retry": null}"#]
        {
            assert!(serde_json::from_str::<Object<TaskRequest>>(right).is_ok());
        }
    }
}
