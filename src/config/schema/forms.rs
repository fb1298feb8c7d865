//! Forms of values that serde does not know by itself.
//!
//! Owns: how an mpp, a colour and an on/off section are read. Must not know: which keys use them.

use crate::config::key::parse_color;
use crate::units::{Mpp, MppXy};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer};
use std::fmt;
use std::marker::PhantomData;

/// Micrometres per pixel.
pub(super) fn mpp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mpp, D::Error> {
    let um_per_px = f64::deserialize(deserializer)?;
    Mpp::new(um_per_px).ok_or_else(|| Error::invalid_value(Unexpected::Float(um_per_px), &"a positive number"))
}

/// Micrometres per pixel, or nothing.
pub(super) fn optional_mpp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Mpp>, D::Error> {
    let Some(um_per_px) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    mpp(serde::de::value::F64Deserializer::new(um_per_px)).map(Some)
}

/// `{ x: …, y: … }`, or nothing.
pub(super) fn optional_mpp_xy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MppXy>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Axes {
        #[serde(deserialize_with = "mpp")]
        x: Mpp,
        #[serde(deserialize_with = "mpp")]
        y: Mpp,
    }
    Ok(Option::<Axes>::deserialize(deserializer)?.map(|Axes { x, y }| MppXy { x, y }))
}

/// `"#rrggbb"`.
pub(super) fn color<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 3], D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_color(&text).ok_or_else(|| Error::invalid_value(Unexpected::Str(&text), &"`#rrggbb`"))
}

/// A section that may be turned off: a mapping, or `false`.
pub(super) fn switch<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Switch<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Switch<T> {
        type Value = Option<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`false` or a mapping of keys")
        }
        fn visit_bool<E: Error>(self, on: bool) -> Result<Option<T>, E> {
            if on { Err(E::invalid_value(Unexpected::Bool(on), &self)) } else { Ok(None) }
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Switch(PhantomData))
}

/// A mapping whose names are the user's, in the order written.
pub(super) fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(String, T)>, D::Error> {
    struct Named<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
        type Value = Vec<(String, T)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping of names")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut named = Vec::new();
            while let Some(entry) = map.next_entry()? {
                named.push(entry);
            }
            Ok(named)
        }
    }
    deserializer.deserialize_map(Named(PhantomData))
}
