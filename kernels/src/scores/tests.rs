use super::*;

fn decide(transform: PostTransform, reading: Reading, raw: &[f64]) -> (usize, Vec<f32>) {
    let decision = Decision { transform, reading };
    let mut raw = raw.to_vec();
    let mut reported = vec![0.0; decision.width(raw.len())];
    let class = decision.decide(&mut raw, &mut reported);
    (class, reported)
}

#[test]
fn probit_is_the_normal_quantile() {
    for (p, quantile) in [
        (0.5, 0.0),
        (0.975, 1.959_963_984_54),
        (0.01, -2.326_347_874_04),
        (0.999_9, 3.719_016_485_46),
    ] {
        assert!((probit(p) - quantile).abs() < 1e-8, "{p}: {}", probit(p));
    }
    assert!(probit(-0.1).is_nan());
}

#[test]
fn softmax_of_large_scores_does_not_overflow() {
    let (class, reported) = decide(PostTransform::Softmax, Reading::PerClass, &[1000.0, 1001.0]);
    assert_eq!(class, 1);
    assert!((reported[1] - 0.731_058_6).abs() < 1e-6);
}

#[test]
fn softmax_zero_leaves_zero_at_zero() {
    let (_, reported) = decide(
        PostTransform::SoftmaxZero,
        Reading::PerClass,
        &[0.0, 1.0, 1.0],
    );
    assert_eq!(reported, vec![0.0, 0.5, 0.5]);
}

#[test]
fn one_probability_decides_at_a_half_and_one_margin_at_zero() {
    assert_eq!(
        decide(PostTransform::None, Reading::Probability, &[0.5]),
        (0, vec![0.5, 0.5])
    );
    assert_eq!(
        decide(PostTransform::None, Reading::Probability, &[0.75]),
        (1, vec![0.25, 0.75])
    );
    assert_eq!(
        decide(PostTransform::None, Reading::Margin, &[0.25]),
        (1, vec![-0.25, 0.25])
    );
    assert_eq!(decide(PostTransform::None, Reading::Margin, &[-0.25]).0, 0);
}

#[test]
fn a_logistic_margin_decides_where_its_probability_does() {
    let (class, reported) = decide(PostTransform::Logistic, Reading::Probability, &[0.3]);
    assert_eq!(class, 1);
    assert!((reported[1] - 0.574_442_5).abs() < 1e-6);
    assert!((reported[0] + reported[1] - 1.0).abs() < 1e-6);
}

#[test]
fn a_small_probability_keeps_its_digits() {
    // 1 / (1 + exp(12.024)). As 1 - p in f32 it would be 100 / 2^24, which is 6.3e-3 off.
    let small = 5.998_471e-6_f32;
    let digits = |got: f32| assert!((got / small - 1.0).abs() < 1e-6, "{got}, not {small}");
    for reading in [Reading::Probability, Reading::Margin, Reading::Complement] {
        digits(decide(PostTransform::Logistic, reading, &[-12.024]).1[1]);
        digits(decide(PostTransform::Logistic, reading, &[12.024]).1[0]);
    }
    let both = [12.024, -12.024];
    digits(decide(PostTransform::Logistic, Reading::PerClass, &both).1[1]);
}

#[test]
fn the_first_of_equal_scores_wins() {
    assert_eq!(
        decide(PostTransform::None, Reading::PerClass, &[1.0, 3.0, 3.0]).0,
        1
    );
}
