//! Names of tensors turned into other names, by rules that are data.
//!
//! Owns: [`Rule`], [`renamed`]. Must not know: networks, files.

/// A name's pattern, and what it becomes. `*` stands for any text, also none; those of the pattern are put where those of
/// the new name are, in order. Without a new name, the tensor is known not to belong to the network and is left out.
pub(super) type Rule = (&'static str, Option<&'static str>);

/// What the first rule that fits makes of `name`: itself where none fits, `None` where it is left out.
pub(super) fn renamed(name: &str, rules: &[Rule]) -> Option<String> {
    for (pattern, to) in rules {
        if let Some(parts) = matched(name, pattern) {
            return to.map(|to| filled(to, &parts));
        }
    }
    Some(name.to_owned())
}

/// The texts under the pattern's stars, each as short as can be, the last one up to the end.
fn matched<'n>(name: &'n str, pattern: &str) -> Option<Vec<&'n str>> {
    let mut fixed = pattern.split('*');
    let mut rest = name.strip_prefix(fixed.next()?)?;
    let mut parts = vec![];
    let mut fixed = fixed.peekable();
    while let Some(text) = fixed.next() {
        let at =
            if fixed.peek().is_none() && rest.ends_with(text) { rest.len() - text.len() } else { rest.find(text)? };
        parts.push(&rest[..at]);
        rest = &rest[at + text.len()..];
    }
    rest.is_empty().then_some(parts)
}

fn filled(to: &str, parts: &[&str]) -> String {
    let mut name = String::with_capacity(to.len() + parts.iter().map(|p| p.len()).sum::<usize>());
    let mut parts = parts.iter();
    for (i, fixed) in to.split('*').enumerate() {
        if i > 0 {
            name.push_str(parts.next().copied().unwrap_or_default());
        }
        name.push_str(fixed);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_carry_over_in_order() {
        let rules: &[Rule] = &[("*denselayer*.norm.1.*", Some("*denselayer*.norm1.*"))];
        let old = "features.denseblock1.denselayer12.norm.1.running_mean";
        assert_eq!(renamed(old, rules).unwrap(), "features.denseblock1.denselayer12.norm1.running_mean");
        assert_eq!(renamed("features.norm0.weight", rules).unwrap(), "features.norm0.weight");
    }

    #[test]
    fn a_pattern_without_a_star_is_the_whole_name() {
        let rules: &[Rule] = &[("a.b", None), ("c", Some("d"))];
        assert_eq!(renamed("a.b", rules), None);
        assert_eq!(renamed("a.bc", rules).unwrap(), "a.bc");
        assert_eq!(renamed("c", rules).unwrap(), "d");
    }

    #[test]
    fn the_first_rule_that_fits_wins_and_a_star_may_be_empty() {
        let rules: &[Rule] = &[("head.*", None), ("*", Some("encoder.*"))];
        assert_eq!(renamed("head.", rules), None);
        assert_eq!(renamed("stem.0.weight", rules).unwrap(), "encoder.stem.0.weight");
        assert_eq!(renamed("a.x.b.x", &[("*.x", Some("*.y"))]).unwrap(), "a.x.b.y");
    }
}
