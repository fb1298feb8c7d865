//! An earlier evaluation on the same images, to compare with.
//!
//! Owns: [`Before`]. Must not know: how either was made.

use super::{Bootstrap, EvaluateError, Interval, Measure};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

/// What an earlier evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Before {
    /// What it calls its model.
    pub model: String,
    measures: Vec<(String, Option<String>, Option<String>, f64)>,
    /// The main measure of each image, by name.
    images: BTreeMap<String, f64>,
    main: String,
}

/// How much better the main measure of an image is on the average.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Change {
    /// Mean over the images both have of now − before.
    pub mean: f64,
    /// Where it would lie with other images of the same kind.
    pub interval: Option<Interval>,
    /// Images both have.
    pub images: usize,
}

impl Before {
    /// Reads `metrics.json` of a directory.
    ///
    /// # Errors
    /// None there, or none of ours.
    pub fn read(dir: &Path) -> Result<Self, EvaluateError> {
        let path = dir.join("metrics.json");
        let wrong = |reason: String| {
            EvaluateError::new(format!("cannot read an earlier evaluation: {reason}: {}", path.display()))
                .hint("name the directory that `wsi-run evaluate` has written")
        };
        let text = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        let word = |v: &Value| v.as_str().map(str::to_owned);
        let of = |m: &Value| Some((word(&m["name"])?, word(&m["class"]), word(&m["organ"]), m["value"].as_f64()?));
        let list = |key: &str| value[key].as_array().ok_or_else(|| wrong(format!("no `{key}`")));
        let main = word(&value["main"]).ok_or_else(|| wrong("no `main`".to_owned()))?;
        let image = |i: &Value| Some((word(&i["name"])?, i[&main].as_f64()?));
        Ok(Self {
            model: word(&value["model"]).unwrap_or_default(),
            measures: list("measures")?.iter().filter_map(of).collect(),
            images: list("images")?.iter().filter_map(image).collect(),
            main,
        })
    }

    /// The same measure.
    pub fn value(&self, of: &Measure) -> Option<f64> {
        let is = |(name, class, organ, _): &&(String, Option<String>, Option<String>, f64)| {
            *name == of.name && *class == of.class && *organ == of.organ
        };
        self.measures.iter().find(is).map(|(.., value)| *value)
    }

    /// Compares images that both have, by their main measure; `None` where they were ordered by another, or share none.
    ///
    /// # Shapes
    /// - `images`: name and main measure of each; `bootstrap` draws these
    pub fn change(&self, main: &str, images: &[(String, Option<f64>)], bootstrap: &Bootstrap) -> Option<Change> {
        if main != self.main {
            return None;
        }
        let gain = |(name, now): &(String, Option<f64>)| Some((*now)? - self.images.get(name)?);
        let gains: Vec<Option<f64>> = images.iter().map(gain).collect();
        let mean = |times: &[u32]| {
            let counted = gains.iter().zip(times).filter_map(|(g, &n)| Some(((*g)?, f64::from(n))));
            let (sum, n) = counted.fold((0.0, 0.0), |(sum, all), (g, n)| (sum + g * n, all + n));
            (n > 0.0).then(|| sum / n)
        };
        let value = mean(&vec![1; images.len()])?;
        Some(Change { mean: value, interval: bootstrap.interval(mean), images: gains.iter().flatten().count() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_compared_with_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let json = r#"{"model":"old","main":"pq","measures":[{"name":"pq","class":null,"organ":null,"value":0.5}],
            "images":[{"name":"a","pq":0.2},{"name":"b","pq":0.6},{"name":"c","pq":null}]}"#;
        std::fs::write(dir.path().join("metrics.json"), json).unwrap();
        let before = Before::read(dir.path()).unwrap();
        let now = [("a", Some(0.3)), ("b", Some(0.9)), ("c", Some(1.0)), ("d", None)].map(|(n, v)| (n.to_owned(), v));
        let bootstrap = Bootstrap::new(&["a", "b", "c", "d"], 200, 0.95, 1);
        let change = before.change("pq", &now, &bootstrap).unwrap();
        assert!((change.mean - 0.2).abs() < 1e-12 && change.images == 2);
        assert!(change.interval.is_some_and(|i| i.low >= 0.1 - 1e-12 && i.high <= 0.3 + 1e-12));
        assert_eq!(before.change("dice", &now, &bootstrap), None);
        assert!(Before::read(&dir.path().join("none")).is_err());
    }
}
