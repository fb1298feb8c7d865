//! What no key of `data` can tell alone.
//!
//! Owns: [`data`]. Must not know: how settings were written, files. Pure.

use super::{Problem, problem};
use crate::config::settings::{Data, DataSet, SplitMethod};
use crate::config::suggest;

/// Every combination that cannot work, in the order of the file.
pub(super) fn data(data: &Data, problems: &mut Vec<Problem>) {
    classes(data, problems);
    if data.sets.is_empty() {
        problems.push(problem(
            &["data.sets", "data"],
            "`data.sets` names no data set, expected at least one".to_owned(),
            "for example `sets: { brca: { path: data/brca_m2c, layout: brca_m2c, labels: { 1: lymphocyte } } }`",
        ));
    }
    for set in &data.sets {
        data_set(set, data, problems);
    }
    if let SplitMethod::Fold { folds, fold } = data.split.method
        && fold > folds
    {
        problems.push(problem(
            &["data.split.fold.fold", "data.split.fold.folds"],
            format!("`data.split.fold.fold` is no part of `{folds}`: found `{fold}`"),
            "folds are counted from 1",
        ));
    }
    let from_set = &data.augment.stain_transfer.from_set;
    if let Some(name) = from_set.as_ref().filter(|name| data.sets.iter().all(|set| set.name != **name)) {
        problems.push(problem(
            &["data.augment.stain_transfer.from_set"],
            format!("`data.augment.stain_transfer.from_set` is `{name}`, which no data set is called"),
            "name one of `data.sets`, or leave it out",
        ));
    }
    let clahe = &data.augment.clahe;
    if clahe.prob > 0.0 && clahe.most < 1.0 {
        problems.push(problem(
            &["data.augment.clahe.most", "data.augment.clahe.prob"],
            format!("`data.augment.clahe.most` is no clip limit: found `{}`, expected 1 or more", clahe.most),
            "2 is usual",
        ));
    }
}

fn classes(data: &Data, problems: &mut Vec<Problem>) {
    if data.classes.is_empty() {
        problems.push(problem(
            &["data.classes", "data"],
            "`data.classes` names no class, expected at least one".to_owned(),
            "for example `classes: { nucleus: {}, lymphocyte: { kind_of: nucleus } }`",
        ));
    }
    for (i, class) in data.classes.iter().enumerate() {
        let path = format!("data.classes.{}", class.name);
        if matches!(class.name.as_str(), "background" | "unknown") {
            problems.push(Problem {
                message: format!("`{path}` is no class: labels may name it without"),
                paths: vec![path.into()],
                hint: "take it out".to_owned(),
            });
            continue;
        }
        let Some(parent) = &class.parent else { continue };
        let before = data.classes[..i].iter().map(|c| c.name.as_str());
        if !before.clone().any(|name| name == parent) {
            let near = suggest::nearest(parent, before.clone());
            problems.push(Problem {
                message: format!("`{path}.kind_of` is `{parent}`, which no class before it is called"),
                paths: vec![format!("{path}.kind_of").into(), path.into()],
                hint: near.map_or_else(
                    || "write the general class first, then its kinds".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                ),
            });
        }
    }
}

fn data_set(set: &DataSet, data: &Data, problems: &mut Vec<Problem>) {
    let path = format!("data.sets.{}", set.name);
    let mut report = |key: &str, message: String, hint: String| {
        problems.push(Problem { paths: vec![format!("{path}{key}").into(), path.clone().into()], message, hint });
    };
    if set.path.as_os_str().is_empty() {
        report(".path", format!("`{path}` does not say where it is, expected `path`"), "`path: data/brca_m2c`".into());
    }
    if set.layout.is_none() {
        let message = format!("`{path}` does not say how its files lie, expected `layout`");
        report(".layout", message, "`layout: brca_m2c`, or a general one such as `instances`, `dots`, `masks`".into());
    }
    for [first, second] in &set.clashes {
        report(
            &format!(".{second}"),
            format!("`{path}` says `{first}` and `{second}`, expected one of them"),
            "keep one, and remove the other".to_owned(),
        );
    }
    let known = || data.classes.iter().map(|c| c.name.as_str());
    let is_class = |name: &str| matches!(name, "background" | "unknown") || known().any(|k| k == name);
    let labels = set.labels.iter().map(|(label, class)| (format!(".labels.{label}"), class));
    for (key, class) in labels.chain(set.class.iter().map(|class| (".class".to_owned(), class))) {
        if !is_class(class) {
            let hint = match suggest::nearest(class, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("`data.classes` has {}", known().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "))
                }
            };
            report(&key, format!("`{path}{key}` is `{class}`, which is no class"), hint);
        }
    }
}
