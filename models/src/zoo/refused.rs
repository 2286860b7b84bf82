//! timm's ViTs that are not in the zoo, by name, each with the reason.

/// What these ViTs have that none of ours has, and their names.
#[rustfmt::skip]
pub(super) static REFUSED: &[(&str, &[&str])] = &[
    ("a ResNet-D with batch norm in front, of which there are no weights", &[
        "vit_base_resnet26d_224", "vit_base_resnet50d_224", "vit_small_resnet26d_224", "vit_small_resnet50d_s16_224",
    ]),
    ("MobileCLIP: convolutions with batch norm in place of the patch embedding", &["vit_base_mci_224"]),
    ("Sapiens 2: LayerScale behind attention alone, and blocks whose heads share keys and values", &[
        "vit_5b_patch16_sapiens2", "vit_base_patch16_sapiens2", "vit_giant_patch16_sapiens2",
        "vit_huge_patch16_sapiens2", "vit_large_patch16_sapiens2",
    ]),
    ("SAM: attention in windows, with relative positions", &[
        "samvit_base_patch16", "samvit_base_patch16_224", "samvit_huge_patch16", "samvit_large_patch16",
    ]),
    ("images of any number of patches (NaFlex)", &[
        "naflexvit_base_patch16_gap", "naflexvit_base_patch16_map", "naflexvit_base_patch16_par_gap",
        "naflexvit_base_patch16_parfac_gap", "naflexvit_base_patch16_radio_v3", "naflexvit_base_patch16_siglip",
        "naflexvit_giant_patch16_radio_v3", "naflexvit_huge_patch16_radio_v3", "naflexvit_huge_patch16_radio_v4",
        "naflexvit_large_patch16_radio_v3", "naflexvit_so150m2_patch16_reg1_gap",
        "naflexvit_so150m2_patch16_reg1_map", "naflexvit_so400m_patch16_radio_v4", "naflexvit_so400m_patch16_siglip",
    ]),
    ("ViTamin: convolutional stages before the blocks", &[
        "vitamin_base_224", "vitamin_large2_224", "vitamin_large2_256", "vitamin_large2_336", "vitamin_large2_384",
        "vitamin_large_224", "vitamin_large_256", "vitamin_large_336", "vitamin_large_384", "vitamin_small_224",
        "vitamin_xlarge_256", "vitamin_xlarge_336", "vitamin_xlarge_384",
    ]),
    ("Gemma 4: norms before and behind attention and MLP at once, and norms of values", &[
        "gemma4_vit_167m", "gemma4_vit_167m_enc", "gemma4_vit_570m", "gemma4_vit_570m_enc",
    ]),
    ("Qwen 3: an encoder with learned positions, resampled by aligned corners, and a layer that merges patches", &[
        "qwen3_vit_88m", "qwen3_vit_88m_enc", "qwen3_vit_88m_merge", "qwen3_vit_306m", "qwen3_vit_306m_enc",
        "qwen3_vit_306m_merge", "qwen3_vit_416m", "qwen3_vit_416m_enc", "qwen3_vit_416m_merge",
    ]),
    ("DeepSeek: an MLP without biases beside attention with biases, and a layer that merges patches", &[
        "deepseek_vit_412m", "deepseek_vit_412m_align", "deepseek_vit_412m_enc",
    ]),
];
