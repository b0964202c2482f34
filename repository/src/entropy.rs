//! Whether bytes are worth compressing, from a small sample of them.

/// Samples of [`SAMPLE`] bytes that are looked at, spread evenly.
const SAMPLES: usize = 16;
const SAMPLE: usize = 512;
/// Bits a byte above which no compressor gains anything worth its time.
const THRESHOLD: f64 = 7.80;

/// Whether `data` looks as if zstd could make it smaller. Wrong answers cost time or space, nothing
/// else. Data of less than 8 KiB is always worth a try: the sample would say too little.
pub(crate) fn looks_compressible(data: &[u8]) -> bool {
    if data.len() < SAMPLES * SAMPLE {
        return true;
    }
    let step = (data.len() - SAMPLE) / (SAMPLES - 1);
    let mut counts = [0u32; 256];
    for i in 0..SAMPLES {
        for byte in &data[i * step..i * step + SAMPLE] {
            counts[usize::from(*byte)] += 1;
        }
    }
    let total = (SAMPLES * SAMPLE) as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|n| **n > 0)
        .map(|n| {
            let p = f64::from(*n) / total;
            -p * p.log2()
        })
        .sum();
    entropy < THRESHOLD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_worth_it_and_noise_is_not() {
        let text: Vec<u8> = b"the quick brown fox "
            .iter()
            .cycle()
            .take(100_000)
            .copied()
            .collect();
        assert!(looks_compressible(&text));
        let mut noise = vec![0; 100_000];
        aws_lc_rs::rand::fill(&mut noise).unwrap();
        assert!(!looks_compressible(&noise));
        assert!(looks_compressible(&noise[..4000]));
    }
}
