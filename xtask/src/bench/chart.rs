//! Charts of figures, as SVG: the same figures give the same bytes. On a background of their own, since pages are white or dark.

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::figures::Spread;

const WIDTH: u32 = 880;
/// Room for title and subtitle.
const HEAD: u32 = 76;
/// Room for the axis below.
const FOOT: i32 = 52;
const INK: RGBColor = RGBColor(31, 35, 40);
const FAINT: RGBColor = RGBColor(89, 99, 110);
const GRID: RGBColor = RGBColor(225, 228, 232);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Who a bar or a line is of; its colour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// sipauth.
    Ours,
    /// What a user would pick instead.
    Other,
    /// A second of these.
    Another,
    /// What nothing can be better than.
    Floor,
}

impl Tone {
    /// Apart for the colour-blind too.
    const fn colour(self) -> RGBColor {
        match self {
            Self::Ours => RGBColor(0, 92, 197),
            Self::Other => RGBColor(200, 90, 20),
            Self::Another => RGBColor(130, 80, 165),
            Self::Floor => RGBColor(140, 149, 159),
        }
    }
}

/// What stands above a chart, and what is measured.
pub(super) struct Head<'a> {
    /// The one thing that the chart says.
    pub(super) title: &'a str,
    /// What was measured, how, on what machine.
    pub(super) subtitle: &'a str,
    /// What the figures are, with unit.
    pub(super) axis: &'a str,
}

/// One bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: Spread,
    pub(super) tone: Tone,
}

/// Horizontal bars under headings (an empty heading takes no room), from zero; a thin line shows least and most.
pub(super) fn bars(head: &Head<'_>, groups: &[(String, Vec<Bar>)]) -> Result<String> {
    const ROW: u32 = 30;
    const LABELS: i32 = 250;
    let rows: u32 = groups
        .iter()
        .map(|(heading, bars)| u32::from(!heading.is_empty()) + u32::try_from(bars.len()).unwrap_or(0))
        .sum();
    let most = top(groups.iter().flat_map(|(_, bars)| bars.iter().map(|bar| bar.value.most)));
    draw(head, HEAD + rows * ROW + u32::try_from(FOOT)?, |area| {
        let mut chart = ChartBuilder::on(area)
            .set_label_area_size(LabelAreaPosition::Left, LABELS)
            .set_label_area_size(LabelAreaPosition::Bottom, FOOT)
            .margin_right(70)
            .build_cartesian_2d(0.0..most, f64::from(rows)..0.0)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_desc(head.axis)
            .x_labels(6)
            .x_label_formatter(&|value| tick(*value))
            .max_light_lines(1)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(font(15.0, FAINT))
            .axis_desc_style(font(15.0, FAINT))
            .draw()
            .map_err(failed)?;
        let mut row = 0.0;
        for (heading, bars) in groups {
            if !heading.is_empty() {
                let (_, y) = chart.backend_coord(&(0.0, row + 0.6));
                text(area, heading, (16, at(area, y)), 16.0, INK, HPos::Left, true)?;
                row += 1.0;
            }
            for bar in bars {
                let Spread { median, least, most } = bar.value;
                let middle = row + 0.5;
                let line = |points: [(f64, f64); 2]| PathElement::new(points, INK.stroke_width(1));
                chart
                    .draw_series([Rectangle::new(
                        [(0.0, row + 0.18), (median, row + 0.82)],
                        bar.tone.colour().filled(),
                    )])
                    .map_err(failed)?;
                if most > least {
                    let caps = [least, most].map(|end| line([(end, row + 0.38), (end, row + 0.62)]));
                    chart
                        .draw_series([line([(least, middle), (most, middle)])].into_iter().chain(caps))
                        .map_err(failed)?;
                }
                let (x, y) = chart.backend_coord(&(median.max(most), middle));
                text(area, &tick(median), (x + 8, at(area, y)), 16.0, INK, HPos::Left, false)?;
                text(area, &bar.label, (LABELS - 12, at(area, y)), 16.0, INK, HPos::Right, false)?;
                row += 1.0;
            }
        }
        Ok(())
    })
}

/// A line: one value for each of the places on the axis below.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) values: Vec<Spread>,
    pub(super) tone: Tone,
}

/// Lines from the first of `places` to the last, which are as far apart as they are many; least and most are thin lines.
pub(super) fn lines(head: &Head<'_>, below: &str, places: &[String], lines: &[Line]) -> Result<String> {
    const HEIGHT: u32 = 440;
    /// Of a label beside another.
    const APART: i32 = 20;
    let most = top(lines.iter().flat_map(|line| line.values.iter().map(|value| value.most)));
    let last = places.len().saturating_sub(1);
    draw(head, HEIGHT, |area| {
        let mut chart = ChartBuilder::on(area)
            .set_label_area_size(LabelAreaPosition::Left, 68)
            .set_label_area_size(LabelAreaPosition::Bottom, FOOT)
            .margin_left(16)
            .margin_right(220)
            .build_cartesian_2d(-0.12..place(last) + 0.04, 0.0..most)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .y_desc(head.axis)
            .y_labels(6)
            .y_label_formatter(&|value| tick(*value))
            .x_desc(below)
            .max_light_lines(1)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(font(15.0, FAINT))
            .axis_desc_style(font(15.0, FAINT))
            .draw()
            .map_err(failed)?;
        for (index, name) in places.iter().enumerate() {
            let (x, y) = chart.backend_coord(&(place(index), 0.0));
            text(area, name, (x, at(area, y) + 14), 15.0, FAINT, HPos::Center, false)?;
        }
        let mut labels = Vec::new();
        for line in lines {
            let colour = line.tone.colour();
            let points: Vec<(f64, f64)> = line
                .values
                .iter()
                .enumerate()
                .map(|(index, value)| (place(index), value.median))
                .collect();
            let spreads =
                line.values.iter().enumerate().map(|(index, value)| {
                    PathElement::new([(place(index), value.least), (place(index), value.most)], colour.stroke_width(1))
                });
            chart.draw_series(spreads).map_err(failed)?;
            chart
                .draw_series([PathElement::new(points.clone(), colour.stroke_width(3))])
                .map_err(failed)?;
            chart
                .draw_series(points.iter().map(|&point| Circle::new(point, 4, colour.filled())))
                .map_err(failed)?;
            if let Some(&end) = points.last() {
                let (x, y) = chart.backend_coord(&end);
                labels.push((x + 12, at(area, y), format!("{}  {}", tick(end.1), line.label), colour));
            }
        }
        labels.sort_by_key(|label| label.1);
        for index in 1..labels.len() {
            labels[index].1 = labels[index].1.max(labels[index - 1].1 + APART);
        }
        for (x, y, label, colour) in labels {
            text(area, &label, (x, y), 16.0, colour, HPos::Left, true)?;
        }
        Ok(())
    })
}

/// Background, title and subtitle, and below them what `body` draws.
fn draw(head: &Head<'_>, height: u32, body: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (top, rest) = root.split_vertically(HEAD);
        text(&top, head.title, (16, 26), 21.0, INK, HPos::Left, true)?;
        text(&top, head.subtitle, (16, 52), 15.0, FAINT, HPos::Left, false)?;
        body(&rest)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn font(size: f64, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size * SCALE).into_font().color(&colour)
}

/// The backend divides sizes by this.
const SCALE: f64 = 1.24;

/// Text with its middle at a height of `area`.
fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: f64, colour: RGBColor, side: HPos, bold: bool) -> Result<()> {
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let style = FontDesc::new(FontFamily::SansSerif, size * SCALE, style)
        .color(&colour)
        .pos(Pos::new(side, VPos::Center));
    area.draw_text(text, &style, at).map_err(failed)
}

/// A height of the whole picture as one of `area`.
fn at(area: &Area<'_>, y: i32) -> i32 {
    y - area.get_pixel_range().1.start
}

/// Where the axis ends: a little above the highest.
fn top(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if most > 0.0 { most * 1.06 } else { 1.0 }
}

fn place(index: usize) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(u32::MAX))
}

/// Three digits are enough to compare.
fn tick(value: f64) -> String {
    let digits = match value.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// The library's errors do not live as long as we need.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw the chart: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head<'static> {
        Head {
            title: "A title",
            subtitle: "and what it is",
            axis: "ns a packet",
        }
    }

    fn bar(label: &str, value: f64) -> Bar {
        Bar {
            label: label.to_owned(),
            value: Spread {
                median: value,
                least: value * 0.9,
                most: value * 1.1,
            },
            tone: Tone::Ours,
        }
    }

    #[test]
    fn the_same_figures_give_the_same_picture_and_others_another() -> Result<()> {
        let chart = |value| bars(&head(), &[("group".to_owned(), vec![bar("one", 3.0), bar("two", value)])]);
        assert_eq!(chart(7.0)?, chart(7.0)?);
        assert_ne!(chart(7.0)?, chart(8.0)?);
        assert!(chart(7.0)?.contains("ns a packet"), "the axis says its unit");
        Ok(())
    }

    #[test]
    fn labels_of_lines_that_end_together_do_not_cover_each_other() -> Result<()> {
        let line = |label: &str, end: f64| Line {
            label: label.to_owned(),
            values: vec![Spread::exact(1.0), Spread::exact(end)],
            tone: Tone::Other,
        };
        let svg = lines(
            &head(),
            "gateways",
            &["10".to_owned(), "1,000".to_owned()],
            &[line("first", 5.0), line("second", 5.0)],
        )?;
        let height = |label: &str| {
            let before = svg
                .split(label)
                .next()
                .and_then(|text| text.rsplit("<text ").next())
                .unwrap_or_default();
            before
                .split(" y=\"")
                .nth(1)
                .and_then(|text| text.split('"').next()?.parse::<i32>().ok())
        };
        assert!(
            height("first").zip(height("second")).is_some_and(|(a, b)| (a - b).abs() >= 16),
            "{svg}"
        );
        Ok(())
    }

    #[test]
    fn ticks_have_no_more_digits_than_tell_something() {
        assert_eq!([0.0, 0.25, 1.5, 20.0, 123.4].map(tick), ["0", "0.25", "1.5", "20", "123"]);
    }
}
