//! Flags that every command has.

use clap::Args;

use super::positive;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalFlags {
    /// Where to compute: auto, cpu, cuda[:N] or metal [default: auto, a GPU where this build can use one]
    #[arg(long, global = true, value_parser = device)]
    pub device: Option<String>,
    /// The type of the model's arithmetic; tf32 on CUDA only [default: f32]
    #[arg(long, global = true, value_parser = ["f32", "bf16", "tf32"])]
    pub dtype: Option<String>,
    /// Where everything random starts; the same seed gives the same run [default: 0]
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Threads for compute and for loading images [default: RAYON_NUM_THREADS, else the cores at hand]
    #[arg(long, global = true, value_name = "N", value_parser = positive)]
    pub threads: Option<usize>,
    /// Say more: what became of every tensor that was loaded
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    pub json: bool,
}

fn device(text: &str) -> Result<String, String> {
    let numbered = text.strip_prefix("cuda:").is_some_and(|number| number.parse::<usize>().is_ok());
    if numbered || ["auto", "cpu", "cuda", "metal"].contains(&text) {
        Ok(text.into())
    } else {
        Err("expected auto, cpu, cuda, cuda:N or metal".into())
    }
}
