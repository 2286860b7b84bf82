//! The rows of a table that are most like a vector.

use candle_core::{D, DType, Device, Tensor};

use super::{Error, Result};

/// The `k` rows of `rows` `[count, dim]` whose cosine with `query` `[dim]` is largest, with that cosine; the most alike first, and of equal ones
/// the first.
///
/// # Errors
/// If the two have not the same width.
pub fn nearest(rows: &Tensor, query: &Tensor, k: usize) -> Result<Vec<(usize, f32)>> {
    let on_cpu = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32);
    let (rows, query) = (on_cpu(rows)?, on_cpu(query)?);
    let ([_, width], [got]) = (rows.dims(), query.dims()) else {
        return Err(Error::invalid(
            "embeddings",
            "[count, dim] and [dim]",
            format!("{:?}, {:?}", rows.dims(), query.dims()),
        ));
    };
    if width != got {
        return Err(Error::invalid("embeddings", format!("vectors of {got} values, as the query has"), width));
    }
    let length = |x: &Tensor| x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(1e-12f32);
    let cosines = rows.broadcast_div(&length(&rows)?)?.matmul(&query.broadcast_div(&length(&query)?)?.unsqueeze(1)?)?;
    let cosines = cosines.flatten_all()?.to_vec1::<f32>()?;
    let mut order: Vec<usize> = (0..cosines.len()).collect();
    order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]));
    Ok(order.into_iter().take(k).map(|at| (at, cosines[at])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_come_first_whatever_their_length() -> Result<()> {
        let rows = Tensor::new(&[[0f32, 5.], [1., 1.], [9., 0.]], &Device::Cpu)?;
        let found = nearest(&rows, &Tensor::new(&[2f32, 0.], &Device::Cpu)?, 2)?;
        assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 1]);
        assert!((found[0].1 - 1.).abs() < 1e-6 && (found[1].1 - 0.5f32.sqrt()).abs() < 1e-6);
        assert!(nearest(&rows, &Tensor::new(&[2f32, 0., 0.], &Device::Cpu)?, 2).is_err());
        Ok(())
    }
}
