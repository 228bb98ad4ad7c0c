//! The results as pictures, for the README.

use std::error::Error;
use std::fs;
use std::path::Path;

use ai_stats_gateway::text::request::Mode;
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::departure::per_second;
use crate::engine::{ISOLATES, run};
use crate::measure::Measure;
use crate::policy::{Ours, Policy};
use crate::{OTHERS, Table, other, seed};

type Done = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (960, 420);
/// Colours that people with any colour vision tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
];
/// Seconds of one point of a line.
const STEP: usize = 5;

/// Draws everything into a folder.
pub fn draw(folder: &Path, tables: &[Table]) -> Done {
    fs::create_dir_all(folder)?;
    on(&folder.join("wasted.svg"), |area| wasted(area, tables))?;
    on(&folder.join("regret.svg"), |area| regret(area, tables))?;
    on(&folder.join("outage.svg"), |area| outage(area, tables))
}

fn on(path: &Path, draw: impl FnOnce(&Area<'_>) -> Done) -> Done {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    Ok(area.present()?)
}

/// Groups of bars, one group a trace, with the legend at the upper left.
fn bars(area: &Area<'_>, title: &str, unit: &str, traces: &[&str], series: &[(String, Vec<f64>)], most: f64) -> Done {
    let least = series.iter().flat_map(|(_, values)| values).fold(0.0_f64, |a, b| a.min(*b));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..traces.len() as f64, least..most)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .max_light_lines(0)
        .y_desc(unit)
        .x_labels(traces.len() * 2 + 1)
        .x_label_formatter(&|x| {
            let is_middle = (x.fract() - 0.5).abs() < 0.01;
            traces.get(*x as usize).filter(|_| is_middle).map_or(String::new(), |name| (*name).to_owned())
        })
        .draw()?;
    let width = 0.8 / series.len() as f64;
    for (i, (name, values)) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let bar = move |(trace, value): (usize, &f64)| {
            let left = trace as f64 + 0.1 + i as f64 * width;
            Rectangle::new([(left, 0.0), (left + width * 0.9, value.min(most))], colour.filled())
        };
        chart
            .draw_series(values.iter().enumerate().map(bar))?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    let place = SeriesLabelPosition::UpperLeft;
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

fn wasted(area: &Area<'_>, tables: &[Table]) -> Done {
    let balanced = |table: &Table| table.modes.iter().find(|(mode, ..)| *mode == Mode::Balanced).unwrap().3.wasted;
    let mut series = vec![("this gateway, balanced".to_owned(), tables.iter().map(balanced).collect())];
    for (i, name) in OTHERS.iter().enumerate() {
        series.push(((*name).to_owned(), tables.iter().map(|table| table.others[i].1.wasted).collect()));
    }
    let traces: Vec<&str> = tables.iter().map(|table| table.trace.name).collect();
    bars(area, "Attempts that failed", "of 100 requests (cut at 60)", &traces, &series, 60.0)
}

fn regret(area: &Area<'_>, tables: &[Table]) -> Done {
    let of = |(mode, _, oracle, ours): &(Mode, &str, Measure, Measure)| {
        (ours.promise(*mode) / oracle.promise(*mode) - 1.0) * 100.0
    };
    let name = |mode: usize| {
        let what = ["the mix of all", "cost", "p95 to first content", "time per token"][mode];
        format!("{}: {what}", crate::MODES[mode].1)
    };
    let one = |mode: usize| tables.iter().map(|table| of(&table.modes[mode])).collect();
    let series: Vec<(String, Vec<f64>)> = (0..crate::MODES.len()).map(|mode| (name(mode), one(mode))).collect();
    let traces: Vec<&str> = tables.iter().map(|table| table.trace.name).collect();
    bars(area, "Worse than the oracle, each mode by what it promises", "%", &traces, &series, 20.0)
}

/// Who sends how much to offers that are down.
fn outage(area: &Area<'_>, tables: &[Table]) -> Done {
    let trace = &tables.iter().find(|table| table.trace.name == "outage").ok_or("no outage")?.trace;
    let down: Vec<usize> =
        trace.providers.iter().enumerate().filter(|(_, p)| !p.episodes.is_empty()).map(|(i, _)| i).collect();
    let line = |policy: &mut dyn Policy| -> Vec<(f64, f64)> {
        let run = run(trace, policy, seed());
        let mut sum = vec![0_u32; trace.seconds as usize + 1];
        for offer in &down {
            sum.iter_mut().zip(per_second(&run, *offer, trace.seconds)).for_each(|(sum, count)| *sum += count);
        }
        let points = sum.chunks(STEP).enumerate().take(420 / STEP);
        points.map(|(i, part)| ((i * STEP) as f64, f64::from(part.iter().sum::<u32>()) / part.len() as f64)).collect()
    };
    let mut lines = vec![(
        "this gateway, balanced".to_owned(),
        line(&mut Ours::new(Mode::Balanced, &trace.providers, ISOLATES, seed())),
    )];
    lines.extend(OTHERS.map(|name| (name.to_owned(), line(&mut *other(name, trace)))));
    let most = lines.iter().flat_map(|(_, points)| points).fold(0.0_f64, |a, (_, b)| a.max(*b));
    let mut chart = ChartBuilder::on(area)
        .caption("Attempts at offers that answer 500 from 120 s to 240 s", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(60.0..420.0, 0.0..most * 1.1)?;
    chart.draw_series([Rectangle::new([(120.0, 0.0), (240.0, most * 1.1)], BLACK.mix(0.07).filled())])?;
    chart.configure_mesh().max_light_lines(0).x_desc("seconds").y_desc("a second").draw()?;
    for (i, (name, points)) in lines.into_iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let shown = points.into_iter().filter(|(at, _)| *at >= 60.0);
        chart
            .draw_series(LineSeries::new(shown, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(3)));
    }
    let place = SeriesLabelPosition::UpperRight;
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
