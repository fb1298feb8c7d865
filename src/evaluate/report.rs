//! The page that shows how good a model is: numbers, confusion, the best, middle and worst images.
//!
//! Owns: [`report_html`], [`Shown`]. Must not know: how numbers were made. One file, nothing is fetched.

use super::{
    Before, Classes, Confusion, Measure,
    evaluation::Evaluation,
    picture::{INVENTED, MISSED, SAID, TRUE},
};
use std::fmt::Write;

/// An image of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// `best`, `middle`, `worst`.
    pub rank: &'static str,
    /// Its name.
    pub name: String,
    /// The measure images are ordered by.
    pub value: f64,
    /// PNG with truth and prediction drawn.
    pub png: Vec<u8>,
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#20242c;margin:2rem auto;max-width:76rem;padding:0 1rem}\
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem}.faint{color:#6b7280}\
table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.22rem .7rem;text-align:right;border-bottom:1px solid #e3e6ea}\
th{font-weight:600;color:#4b5563}td.range{white-space:nowrap}td:first-child,th:first-child,td.words{text-align:left}td.words{color:#6b7280;font-size:.87rem}\
.grid{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;flex:1 1 21rem;max-width:36rem}figure img{width:100%;display:block;border-radius:4px}\
figcaption{font-size:.85rem;color:#4b5563;overflow-wrap:anywhere;margin-top:.25rem}.key span{margin-right:1.3rem;white-space:nowrap}\
.key i{display:inline-block;width:.85rem;height:.85rem;border-radius:50%;margin-right:.35rem;vertical-align:-.1rem;border:1px solid #0004}\
.bar{background:#eef1f4;height:1.1rem;position:relative;border-radius:3px;width:16rem}.bar b{position:absolute;top:0;bottom:0;background:#9cc3f5;border-radius:3px}\
.bar u{position:absolute;top:-2px;bottom:-2px;width:2px;background:#1c4fa0}";

/// The page of an evaluation.
pub fn report_html(evaluation: &Evaluation, shown: &[Shown]) -> String {
    let mut page = String::new();
    let title = format!("{} on {}", evaluation.model, evaluation.data);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"faint\">{}</p>",
        escaped(&evaluation.sentence()),
        title = escaped(&title),
    );
    let of_all: Vec<&Measure> = evaluation.measures.iter().filter(|m| m.organ.is_none() && m.class.is_none()).collect();
    let before = evaluation.before.as_ref().map(|(before, _)| before);
    if let Some(words) = evaluation.change_sentence() {
        let _ = write!(page, "<p>{}</p>", escaped(&words));
    }
    page += "<h2>Measures</h2>";
    table(&mut page, &of_all, None, before);
    let of_class: Vec<&Measure> =
        evaluation.measures.iter().filter(|m| m.organ.is_none() && m.class.is_some()).collect();
    if !of_class.is_empty() {
        page += "<h2>Per class</h2>";
        table(&mut page, &of_class, Some("class"), before);
    }
    let of_organ: Vec<&Measure> = evaluation.measures.iter().filter(|m| m.organ.is_some()).collect();
    if !of_organ.is_empty() {
        page += "<h2>Per organ</h2>";
        table(&mut page, &of_organ, Some("organ"), before);
    }
    for (title, first, last, confusion) in evaluation.confusions() {
        confusion_table(&mut page, title, (first, last), &confusion, &evaluation.classes);
    }
    distribution(&mut page, evaluation);
    images(&mut page, evaluation, shown);
    page += "</body></html>\n";
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |v| format!("{v:.3}"))
}

fn table(page: &mut String, measures: &[&Measure], by: Option<&str>, before: Option<&Before>) {
    let group = by.map_or(String::new(), |by| format!("<th>{by}</th>"));
    let _ = write!(
        page,
        "<table><tr><th>measure</th>{group}{}<th>value</th><th>interval</th><th></th><th>images</th><th></th></tr>",
        if before.is_some() { "<th>before</th>" } else { "" }
    );
    for m in measures {
        let group = match by {
            Some("class") => format!("<td class=\"words\">{}</td>", escaped(m.class.as_deref().unwrap_or(""))),
            Some(_) => format!("<td class=\"words\">{}</td>", escaped(m.organ.as_deref().unwrap_or(""))),
            None => String::new(),
        };
        let earlier = before.map_or(String::new(), |b| format!("<td>{}</td>", number(b.value(m))));
        let interval = m.interval.map_or_else(|| "–".to_owned(), |i| format!("{:.3} – {:.3}", i.low, i.high));
        let _ = write!(
            page,
            "<tr><td>{}</td>{group}{earlier}<td><b>{}</b></td><td class=\"range\">{interval}</td><td>{}</td><td>{}</td><td class=\"words\">{}</td></tr>",
            m.name,
            number(m.value),
            bar(m),
            m.images,
            escaped(m.meaning)
        );
    }
    *page += "</table>";
}

/// Interval and value from 0 to 1.
fn bar(m: &Measure) -> String {
    let Some(value) = m.value else { return String::new() };
    let percent = |v: f64| 100.0 * v.clamp(0.0, 1.0);
    let range = m.interval.map_or(String::new(), |i| {
        format!("<b style=\"left:{:.1}%;width:{:.1}%\"></b>", percent(i.low), percent(i.high) - percent(i.low))
    });
    format!("<div class=\"bar\">{range}<u style=\"left:calc({:.1}% - 1px)\"></u></div>", percent(value))
}

fn confusion_table(
    page: &mut String,
    title: &str,
    (first, last): (Option<&str>, Option<&str>),
    c: &Confusion,
    classes: &Classes,
) {
    let names: Vec<String> = first
        .into_iter()
        .map(str::to_owned)
        .chain(classes.infos.iter().map(|i| i.name.clone()))
        .chain(last.map(str::to_owned))
        .collect();
    let _ = write!(page, "<h2>{title}</h2><table><tr><th>true ╲ said</th>");
    names.iter().for_each(|name| {
        let _ = write!(page, "<th>{}</th>", escaped(name));
    });
    *page += "</tr>";
    for (t, name) in names.iter().enumerate() {
        let row: u64 = (0..names.len()).map(|p| c.get(t, p)).sum();
        let _ = write!(page, "<tr><th>{}</th>", escaped(name));
        for p in 0..names.len() {
            let share = if row == 0 { 0.0 } else { c.get(t, p) as f64 / row as f64 };
            let color = if t == p { "40,120,220" } else { "220,90,60" };
            let _ = write!(page, "<td style=\"background:rgba({color},{:.2})\">{}</td>", share * 0.75, c.get(t, p));
        }
        *page += "</tr>";
    }
    *page += "</table>";
}

/// How images are spread over the main measure.
fn distribution(page: &mut String, evaluation: &Evaluation) {
    const BINS: usize = 20;
    let values: Vec<f64> = evaluation.image_values().into_iter().filter_map(|(_, v)| v).collect();
    if values.is_empty() {
        return;
    }
    let mut bins = [0_usize; BINS];
    values.iter().for_each(|v| bins[((v.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1)] += 1);
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    let _ = write!(
        page,
        "<h2>Images by {}</h2><svg width=\"640\" height=\"150\" font-size=\"11\">",
        escaped(evaluation.main.0)
    );
    for (i, n) in bins.iter().enumerate() {
        let (h, x) = (100.0 * *n as f64 / most as f64, 30.0 * i as f64 + 10.0);
        let _ = write!(page, "<rect x=\"{x}\" y=\"{}\" width=\"28\" height=\"{h:.1}\" fill=\"#9cc3f5\"/>", 120.0 - h);
        if *n > 0 {
            let _ = write!(page, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\">{n}</text>", x + 14.0, 116.0 - h);
        }
        if i % 4 == 0 {
            let _ = write!(page, "<text x=\"{x}\" y=\"138\">{:.1}</text>", i as f64 / BINS as f64);
        }
    }
    *page += "<text x=\"604\" y=\"138\">1</text></svg>";
}

fn images(page: &mut String, evaluation: &Evaluation, shown: &[Shown]) {
    if shown.is_empty() {
        return;
    }
    let key = [(TRUE, "true"), (MISSED, "true, missed"), (SAID, "said, true"), (INVENTED, "said")];
    *page += "<h2>Images</h2><p class=\"key\">";
    for ([r, g, b], words) in key {
        let _ = write!(page, "<span><i style=\"background:rgb({r},{g},{b})\"></i>{words}</span>");
    }
    *page += "</p>";
    for rank in ["best", "middle", "worst"] {
        let of_rank: Vec<&Shown> = shown.iter().filter(|s| s.rank == rank).collect();
        if of_rank.is_empty() {
            continue;
        }
        let _ = write!(page, "<h3>{rank}</h3><div class=\"grid\">");
        for s in of_rank {
            let _ = write!(
                page,
                "<figure><img alt=\"{name}\" src=\"data:image/png;base64,{}\"><figcaption>{} {:.3} · {name}</figcaption></figure>",
                base64(&s.png),
                escaped(evaluation.main.0),
                s.value,
                name = escaped(&s.name)
            );
        }
        *page += "</div>";
    }
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().chain([&0, &0]).take(3).fold(0_u32, |all, b| all << 8 | u32::from(*b));
        for i in 0..4 {
            let letter = LETTERS[(all >> (18 - 6 * i)) as usize & 63] as char;
            text.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_rfc_4648_has_them() {
        let found = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(found, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn names_cannot_break_the_page() {
        assert_eq!(escaped("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;&gt;");
    }
}
