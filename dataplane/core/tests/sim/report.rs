//! What came out of a run, without its first fifth, in which the caches fill.

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Request {
    pub(crate) proxy: usize,
    pub(crate) hit_tokens: u64,
    pub(crate) ttft_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Report {
    pub(crate) requests: Vec<Request>,
    pub(crate) busy_ms: Vec<f64>,
}

impl Report {
    fn warm(&self) -> &[Request] {
        &self.requests[self.requests.len() / 5..]
    }

    pub(crate) fn mean_s(&self) -> f64 {
        let warm = self.warm();
        warm.iter().map(|request| request.ttft_ms).sum::<u64>() as f64 / warm.len() as f64 / 1_000.0
    }

    /// The same of all requests, those that came first too.
    pub(crate) fn whole_mean_s(&self) -> f64 {
        self.requests.iter().map(|request| request.ttft_ms).sum::<u64>() as f64 / self.requests.len() as f64 / 1_000.0
    }

    /// A quantile of the time to first token in seconds.
    pub(crate) fn quantile_s(&self, part: f64) -> f64 {
        let mut sorted: Vec<u64> = self.warm().iter().map(|request| request.ttft_ms).collect();
        sorted.sort_unstable();
        sorted[((sorted.len() - 1) as f64 * part) as usize] as f64 / 1_000.0
    }

    /// The hits of the requests that one proxy had, or of all, as a share of what one pooled cache would hit of them.
    pub(crate) fn hit_share(&self, pooled: &[u64], proxy: Option<usize>) -> f64 {
        let (hits, bound) = self.hits(pooled, proxy);
        if bound == 0 { 1.0 } else { hits as f64 / bound as f64 }
    }

    /// Those hits, and what one pooled cache would hit.
    pub(crate) fn hits(&self, pooled: &[u64], proxy: Option<usize>) -> (u64, u64) {
        let counted = self.requests.iter().zip(pooled).filter(|(request, _)| proxy.is_none_or(|p| request.proxy == p));
        counted.fold((0, 0), |(hits, bound), (r, pooled)| (hits + r.hit_tokens, bound + pooled))
    }

    /// Prefill time of the busiest engine over the mean.
    pub(crate) fn busiest(&self) -> f64 {
        let most = self.busy_ms.iter().copied().fold(0.0, f64::max);
        most * self.busy_ms.len() as f64 / self.busy_ms.iter().sum::<f64>()
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
