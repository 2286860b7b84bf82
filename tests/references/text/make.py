#!/usr/bin/env python3
"""The references of tests/text: small random CLIP and SigLIP models in their real layouts, and what their own libraries give.

    pip install torch transformers open_clip_torch sentencepiece ftfy safetensors
        # made with torch 2.15, transformers 5.24, open_clip_torch 3.3, ftfy 6.3
    python make.py                            # writes beside itself

- clip/, siglip/, siglip2/: transformers' CLIP, SigLIP and SigLIP 2; open_clip/, open_clip_siglip/, open_clip_scaled/: open_clip's; each with its tokenizer
All files but the pairs are compressed, which the tests undo.

- reference.json: the tokens and vectors of texts, the class embeddings and logits of a zero-shot classifier, and the loss and gradient
  norm of twenty steps from it on the first MNIST digits
- tokens.json: tokens of CLIP's own pairs (the first 2,000) for some hundred texts
"""
import gzip, json, os, random, shutil, tempfile
from pathlib import Path

import numpy as np
import open_clip
import sentencepiece
import torch
import torch.nn.functional as F
import transformers
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, bytes_to_unicode
from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

here = Path(__file__).parent
PAIRS = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
TEXTS = ["a photo of a cat.", "It's a dog’s life &amp; more", "東京の猫 🐱 naïve CAFÉ №5", "x_y-z", "word " * 90]
# Marks of tokenizers, spelt out.
MARKED = ["a cat</s>dog", "a cat </s> dog", "</s>", "a <unk> cat", "a<s>cat", "<pad>cat", "cat<|endoftext|>dog", "<|startoftext|>cat <|endoftext|>",
          "a CAT<|ENDOFTEXT|>dog", "<eos>cat", "<bos>a<bos>", "A </S> b", "a cat, </s>, dog.", "Hello, WORLD</s>It's", " </s>a", "a▁b </s>▁c d", "a!</s>!b",
          "word " * 80 + "</s> x"]
WORDS = """a photo of the cat dog red fox bear car train house tree small large painting drawing sketch toy bad good dark
bright one my café Bär Straße niño garçon Москва кошка 東京 の 猫 日本 고양이 γάτα it's don't 5 2024 € & © – … “ ” 🐱 👍🏽 ❤️""".split()


def sentences(count, seed):
    """Texts of all kinds: emoji, accents, CJK, entities, odd white space, empty ones and long ones."""
    rng = random.Random(seed)
    odd = ["", " ", "\t\n", "&lt;b&gt;x&lt;/b&gt;", "<b>&amp;</b> &copy 2024", "e\u0301te\u0301", "ﬁne ﬂow ＬＯＵＤ　ｎｏｉｓｅ", "“it’s”",
           "a\u00a0b\u2003c\u3000d", "\u200bzero\u200dwidth", "ÀÉÎÕÜ ŞİĞ ẞ ΣΊΣΥΦΟΣ", "👨‍👩‍👧‍👦🇩🇪🏳️‍🌈", "１２３ ½ ² Ⅷ", "\x1b[31mred\x1b[0m \x07", "don't I'll WE'VE they'RE",
           "&#x1F600; &#233; &eacute; &EACUTE; &notit;", "a" * 300, "漢字" * 60, "<|startoftext|> <|endoftext|>", "<start_of_text>x"]
    texts = odd[:]
    while len(texts) < count:
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, 12))]
        words = [rng.choice([str, str.upper, str.title])(w) for w in words]
        texts.append(rng.choice([" ", "  ", "_", ", "]).join(words) + rng.choice(["", ".", "!", "?!", " …"]))
    return texts


def pairs(count):
    return gzip.open(PAIRS).read().decode().split("\n")[1 : 1 + count]


def write_pairs(folder, count):
    with gzip.GzipFile(folder / "bpe_simple_vocab_16e6.txt.gz", "wb", mtime=0) as f:
        f.write("\n".join(["#version: 0.2"] + pairs(count)).encode())


def vocabulary(count):
    bytes_ = list(bytes_to_unicode().values())
    tokens = bytes_ + [b + "</w>" for b in bytes_] + ["".join(p.split()) for p in pairs(count)]
    return {t: i for i, t in enumerate(tokens + ["<|startoftext|>", "<|endoftext|>"])}


def randomise(model, seed):
    """Values that half precision holds, so that the files are small and the sums are those of float32."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "logit" not in name:
                p.copy_((p + 0.1 * torch.randn_like(p)).half().float())
    return model.eval()


def save(model, path):
    tensors = {k: (v if "logit" in k else v.half()).contiguous() for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(tensors, path, metadata={"format": "pt"})


def rows(tensor):
    tensor = tensor if torch.is_tensor(tensor) else tensor.pooler_output
    return [[float(f"{v:.8g}") for v in row] for row in tensor.double().tolist()]


def described(encode, texts, images, scale, bias):
    image, text = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    logits = scale * image @ text.T + (bias or 0.0)
    return {"tokens": encode(TEXTS).tolist(), "marked": encode(MARKED).tolist(), "texts": rows(texts), "images": rows(images), "logits": rows(logits)}


def pixels(side):
    """Numbers that the tests make in the same way."""
    return ((torch.arange(2 * 3 * side * side) * 7919 % 257) / 256 - 0.5).reshape(2, 3, side, side)


def features(output):
    return output if torch.is_tensor(output) else output.pooler_output


@torch.no_grad()
def clip():
    folder, vocab = here / "clip", vocabulary(24)
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2"] + pairs(24)) + "\n")
    size = dict(hidden_size=8, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    config = transformers.CLIPConfig(
        text_config=dict(size, vocab_size=len(vocab), max_position_embeddings=24, eos_token_id=2, bos_token_id=0, projection_dim=12),
        vision_config=dict(size, image_size=16, patch_size=8, projection_dim=12), projection_dim=12)
    model = randomise(transformers.CLIPModel(config), 1)
    save(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=1))
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=[tuple(p.split()) for p in pairs(24)])
    encode = lambda texts: tokenizer(texts, padding="max_length", truncation=True, max_length=24, return_tensors="pt").input_ids
    text, image = features(model.get_text_features(encode(TEXTS))), features(model.get_image_features(pixels(16)))
    return described(encode, text, image, model.logit_scale.exp(), None)


def unigram(folder):
    """A small SentencePiece vocabulary as SigLIP's repositories have it: the model, and tokenizer.json made of it."""
    with tempfile.TemporaryDirectory() as d:
        corpus = Path(d) / "corpus.txt"
        corpus.write_text("\n".join(sentences(2000, 1)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=f"{d}/m", vocab_size=240, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            normalization_rule_name="identity", hard_vocab_limit=False, minloglevel=2, num_threads=1)
        shutil.copy(f"{d}/m.model", f"{d}/spiece.model")
        slow = transformers.SiglipTokenizer(f"{d}/spiece.model")
        model = sentencepiece.SentencePieceProcessor(f"{d}/m.model")
        pieces = [(model.IdToPiece(i), model.GetScore(i)) for i in range(model.GetPieceSize())]
        fast = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
        fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
        fast.add_special_tokens(["</s>", "<unk>"])
        fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        fast.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(
            {"tokenizer_class": "SiglipTokenizer", "pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>", "do_lower_case": True}))
        return slow, len(pieces), lambda texts, n: slow(texts, padding="max_length", truncation=True, max_length=n, return_tensors="pt").input_ids


def gemma(folder):
    """A small tokenizer as Gemma's, with bytes to fall back to, as SigLIP 2's repositories have it."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [f"<0x{b:02X}>" for b in range(256)]
    raw = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")
    raw.train_from_iterator(sentences(2000, 2), trainers.BpeTrainer(vocab_size=420, special_tokens=specials, limit_alphabet=60))
    made = json.loads(raw.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in made["merges"]]
    tokenizer = transformers.Siglip2Tokenizer(vocab=made["vocab"], merges=merges, padding_side="right")
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    # As the hub's: the lower case is the class's own doing.
    file = Tokenizer.from_str(tokenizer._tokenizer.to_str())
    file.normalizer = normalizers.Replace(" ", "▁")
    file.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "padding_side": "right", "add_bos_token": False, "add_eos_token": True}))
    return len(made["vocab"]), lambda texts, n: tokenizer(texts, padding="max_length", truncation=True, max_length=n, return_tensors="pt").input_ids


@torch.no_grad()
def siglip(name, second):
    folder = here / name
    folder.mkdir(exist_ok=True)
    if second:
        vocab, encode = gemma(folder)
    else:
        _, vocab, encode = unigram(folder)
    size = dict(hidden_size=8, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.SiglipConfig(
        text_config=dict(size, vocab_size=vocab, max_position_embeddings=64, projection_size=8), vision_config=dict(size, image_size=16, patch_size=8))
    model = randomise(transformers.SiglipModel(config), 3)
    with torch.no_grad():
        model.logit_scale.fill_(2.0), model.logit_bias.fill_(-3.0)
    save(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=1))
    text, image = features(model.get_text_features(encode(TEXTS, 64))), features(model.get_image_features(pixels(16)))
    return described(lambda texts: encode(texts, 64), text, image, model.logit_scale.exp(), model.logit_bias)


def open_clip_model():
    folder = here / "open_clip"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(4)  # it is made twice
    write_pairs(folder, 24)
    config = dict(
        embed_dim=12, vision_cfg=dict(image_size=28, layers=2, width=16, head_width=8, mlp_ratio=2.0, patch_size=7),
        text_cfg=dict(context_length=32, vocab_size=512 + 24 + 2, width=8, heads=2, layers=2))
    model = randomise(open_clip.CLIP(**config), 5)
    save(model, folder / "open_clip_model.safetensors")
    preprocess = dict(size=[28, 28], mode="RGB", mean=[0.0] * 3, std=[1.0] * 3, interpolation="bicubic", resize_mode="shortest")
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess), indent=1))
    return model, SimpleTokenizer(str(folder / "bpe_simple_vocab_16e6.txt.gz"), context_length=32)


@torch.no_grad()
def open_clip_reference():
    model, tokenizer = open_clip_model()
    found = described(tokenizer, model.encode_text(tokenizer(TEXTS)), model.encode_image(pixels(28)), model.logit_scale.exp(), None)
    classes = open_clip.build_zero_shot_classifier(model, tokenizer, [str(d) for d in range(10)], SIMPLE_IMAGENET_TEMPLATES).T
    found["classes"] = rows(classes)
    found["zero_shot"] = rows(model.logit_scale.exp() * F.normalize(model.encode_image(pixels(28)), dim=-1) @ classes.T)
    return found


@torch.no_grad()
def open_clip_siglip():
    folder = here / "open_clip_siglip"
    folder.mkdir(exist_ok=True)
    vocab, _ = gemma(folder)
    config = dict(
        embed_dim=8, init_logit_bias=-10, vision_cfg=dict(image_size=16, layers=1, width=8, head_width=4, patch_size=8),
        text_cfg=dict(context_length=64, vocab_size=vocab, hf_tokenizer_name="timm/ViT-B-16-SigLIP2", tokenizer_kwargs={"clean": "canonicalize"},
                      width=8, heads=2, layers=1, no_causal_mask=True, proj_bias=True, pool_type="last", norm_kwargs={"eps": 1e-6},
                      act_kwargs={"approximate": "tanh"}))
    model = randomise(open_clip.CustomTextCLIP(**config), 6)
    save(model, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(
        dict(model_cfg=dict(config, custom_text=True), preprocess_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3)), indent=1))
    tokenizer = HFTokenizer(str(folder), context_length=64, clean="canonicalize")
    return described(tokenizer, model.encode_text(tokenizer(TEXTS)), model.encode_image(pixels(16)), model.logit_scale.exp(), model.logit_bias)


@torch.no_grad()
def open_clip_scaled():
    """LayerScale in both towers."""
    folder = here / "open_clip_scaled"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(8)
    write_pairs(folder, 24)
    config = dict(
        embed_dim=4, vision_cfg=dict(image_size=8, layers=1, width=8, head_width=4, patch_size=4, ls_init_value=0.1),
        text_cfg=dict(context_length=32, vocab_size=512 + 24 + 2, width=4, heads=1, layers=2, ls_init_value=0.1))
    model = randomise(open_clip.CLIP(**config), 9)
    save(model, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=dict(mean=[0.0] * 3, std=[1.0] * 3)), indent=1))
    tokenizer = SimpleTokenizer(str(folder / "bpe_simple_vocab_16e6.txt.gz"), context_length=32)
    return described(tokenizer, model.encode_text(tokenizer(TEXTS)), model.encode_image(pixels(8)), model.logit_scale.exp(), None)


def twenty_steps():
    """The tower with a zero-shot head, all of it trained, as WiSE-FT builds it: normalised features, weights times the scale, a bias of zero."""
    model, tokenizer = open_clip_model()
    with torch.no_grad():
        classes = open_clip.build_zero_shot_classifier(model, tokenizer, [str(d) for d in range(10)], [lambda c: f"a photo of a {c}."]).T
        head = torch.nn.Linear(12, 10).double()
        head.weight.copy_((model.logit_scale.exp() * classes).double()), head.bias.zero_()
    visual = model.visual.double().train()
    data = here.parents[2] / "data" / "mnist"
    images = np.frombuffer(gzip.open(data / "train-images-idx3-ubyte.gz").read(16 + 320 * 784)[16:], np.uint8).reshape(320, 1, 28, 28)
    labels = np.frombuffer(gzip.open(data / "train-labels-idx1-ubyte.gz").read(8 + 320)[8:], np.uint8)
    images, labels = torch.tensor(images / 255.0).expand(-1, 3, -1, -1), torch.tensor(labels.astype(np.int64))
    named = [(n, p) for n, p in visual.named_parameters()] + [("head." + n, p) for n, p in head.named_parameters()]
    never = ("positional_embedding", "class_embedding")
    decayed = [p for n, p in named if p.ndim > 1 and n not in never]
    others = [p for n, p in named if not (p.ndim > 1 and n not in never)]
    opt = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=1e-3)
    losses, norms = [], []
    for step in range(20):
        at = slice(16 * step, 16 * step + 16)
        loss = F.cross_entropy(head(F.normalize(visual(images[at]), dim=-1)), labels[at])
        opt.zero_grad()
        loss.backward()
        norms.append(torch.sqrt(sum((p.grad**2).sum() for _, p in named)).item())
        opt.step()
        losses.append(loss.item())
    return {"loss": losses, "grad_norm": norms}


@torch.no_grad()
def tokens():
    """CLIP's tokens by 2,000 of its pairs, as open_clip and as transformers cut texts."""
    with tempfile.TemporaryDirectory() as d:
        write_pairs(Path(d), 2000)
        own = SimpleTokenizer(f"{d}/bpe_simple_vocab_16e6.txt.gz", context_length=77)
        shutil.copy(f"{d}/bpe_simple_vocab_16e6.txt.gz", here / "bpe_2000.txt.gz")
        vocab = vocabulary(2000)
        hugging = transformers.CLIPTokenizer(vocab=vocab, merges=[tuple(p.split()) for p in pairs(2000)])
        texts = sentences(110, 7)
        trim = lambda ids, end: ids[: ids.index(end) + 1] if end in ids else ids
        end = len(vocab) - 1
        result = {"texts": texts, "open_clip": [trim(own(t)[0].tolist(), end) for t in texts],
                  "transformers": [hugging(t, truncation=True, max_length=77).input_ids for t in texts]}
    (here / "tokens.json").write_text(json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n")


found = {"sentences": TEXTS, "marked": MARKED, "clip": clip(), "siglip": siglip("siglip", False), "siglip2": siglip("siglip2", True),
         "open_clip": open_clip_reference(), "open_clip_siglip": open_clip_siglip(), "open_clip_scaled": open_clip_scaled(), "twenty_steps": twenty_steps()}
(here / "reference.json").write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")
tokens()
# Half of the small models are names and numbers of tensors: compressed, all of it is half as large.
for path in sorted(here.rglob("*")):
    if path.is_file() and path.suffix not in (".py", ".gz"):
        with gzip.GzipFile(f"{path}.gz", "wb", mtime=0) as f:
            f.write(path.read_bytes())
        path.unlink()
