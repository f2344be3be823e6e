//! The table's bars, as an SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 130.0;
const BAR: f64 = 15.0;

/// Of `(case, bytes, peer, nanoseconds)`: one group for each case and size, in the order in which they come.
pub fn svg(bars: &[(&str, usize, &str, f64)]) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    let mut group = None;
    for &(case, bytes, peer, ns) in bars {
        if group != Some((case, bytes)) {
            group = Some((case, bytes));
            y += 22.0;
            put(
                &mut body,
                format_args!(r#"<text x="{LEFT}" y="{y}" class="h">{case}, {bytes} bytes</text>"#),
            );
            y += 6.0;
        }
        let of_group = bars.iter().filter(|bar| (bar.0, bar.1) == (case, bytes)).map(|bar| bar.3);
        let longest = of_group.fold(1.0, f64::max);
        let width = (ns.max(0.0) / longest * (WIDTH - LEFT - 90.0)).max(1.0);
        let class = if peer.starts_with("ours") {
            "ours"
        } else if peer.starts_with("floor") {
            "floor"
        } else {
            "peer"
        };
        let (base, end) = (y + BAR - 3.5, LEFT + width + 6.0);
        put(
            &mut body,
            format_args!(r#"<text x="{}" y="{base}" text-anchor="end">{peer}</text>"#, LEFT - 6.0),
        );
        put(
            &mut body,
            format_args!(
                r#"<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{}" class="{class}"/>"#,
                BAR - 3.0
            ),
        );
        put(&mut body, format_args!(r#"<text x="{end:.1}" y="{base}">{ns:.0} ns</text>"#));
        y += BAR;
    }
    let height = y + 12.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Nanoseconds that a session adds to a request\">\n\
         <style>text{{font:11px sans-serif;fill:#444}}.h{{font-weight:bold}}.ours{{fill:#2a6fdb}}\
         .peer{{fill:#b9bec7}}.floor{{fill:#8fc79a}}\
         @media(prefers-color-scheme:dark){{text{{fill:#ccc}}.peer{{fill:#6b7280}}}}</style>\n{body}</svg>\n"
    )
}

fn put(body: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(body, "{element}").expect("a String takes it");
}
