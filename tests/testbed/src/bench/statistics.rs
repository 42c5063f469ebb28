// SPDX-License-Identifier: MIT OR Apache-2.0
//! Statistics of measurements: medians, quartiles and comparison of pairs.

/// Comparison of pairs of measurements. The values of a pair were measured one after the other, so the load of the
/// machine affects both. So the median of the differences is more exact than the difference of the medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison {
    /// Median of our values.
    pub(super) ours: f64,
    /// Median of the baseline.
    pub(super) baseline: f64,
    /// Median of the pairs' differences, ours minus baseline.
    pub(super) difference: f64,
    /// Median of the pairs' ratios, ours over baseline.
    pub(super) ratio: f64,
    /// Interquartile range of the pairs' differences.
    pub(super) spread: f64,
    /// Number of pairs.
    pub(super) n: usize,
}

/// Compares two series pair by pair. `None` if there is no pair.
pub(super) fn compare(ours: &[f64], baseline: &[f64]) -> Option<Comparison> {
    let pairs = || ours.iter().zip(baseline);
    let differences: Vec<f64> = pairs().map(|(ours, baseline)| ours - baseline).collect();
    let ratios: Vec<f64> = pairs().map(|(ours, baseline)| ours / baseline).collect();
    Some(Comparison {
        ours: median(ours)?,
        baseline: median(baseline)?,
        difference: median(&differences)?,
        ratio: median(&ratios)?,
        spread: interquartile_range(&differences)?,
        n: differences.len(),
    })
}

/// The median.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The interquartile range.
pub(super) fn interquartile_range(values: &[f64]) -> Option<f64> {
    Some(quantile(values, 0.75)? - quantile(values, 0.25)?)
}

/// The quantile `q` (0 to 1), interpolated between two values (type 7 of Hyndman and Fan, as in most programs).
fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    // A series is far shorter than 2^52.
    #[allow(clippy::cast_precision_loss)]
    let place = q * last as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let below = place.floor() as usize;
    let lower = *sorted.get(below)?;
    let upper = *sorted.get((below + 1).min(last))?;
    Some(lower + (upper - lower) * (place - place.floor()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: Option<f64>, expected: f64) {
        let found = found.unwrap();
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn medians_of_odd_even_and_unsorted_series() {
        assert_close(median(&[7.0]), 7.0);
        assert_close(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_close(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_close(median(&[-1.0, -3.0, 1e9]), -1.0);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn the_interquartile_range_equals_that_of_r() {
        // R: IQR(1:4) is 1.5, IQR(c(6, 47, 49, 15, 42, 41, 7, 39, 43, 40, 36)) is 17.
        assert_close(interquartile_range(&[1.0, 2.0, 3.0, 4.0]), 1.5);
        assert_close(interquartile_range(&[6.0, 47.0, 49.0, 15.0, 42.0, 41.0, 7.0, 39.0, 43.0, 40.0, 36.0]), 17.0);
        assert_close(interquartile_range(&[5.0, 5.0, 5.0]), 0.0);
        assert_close(interquartile_range(&[5.0]), 0.0);
        assert_eq!(interquartile_range(&[]), None);
    }

    #[test]
    fn an_outlier_changes_neither_median_nor_range() {
        let without = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let with = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7e6];
        assert_eq!(median(&without), median(&with));
        assert_eq!(interquartile_range(&without), interquartile_range(&with));
    }

    #[test]
    fn pairs_cancel_the_load_of_the_machine() {
        // The machine becomes ten times slower half-way. Ours always takes 1 longer.
        let baseline = [10.0, 10.0, 10.0, 100.0, 100.0, 100.0];
        let ours = baseline.map(|value| value + 1.0);
        let found = compare(&ours, &baseline).unwrap();
        assert_close(Some(found.difference), 1.0);
        assert_close(Some(found.spread), 0.0);
        assert_close(Some(found.ratio), f64::midpoint(1.1, 1.01));
        assert_eq!((found.ours, found.baseline, found.n), (56.0, 55.0, 6));
        assert_eq!(compare(&[], &[]), None);
    }
}
