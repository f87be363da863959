"""The lm-evaluation-harness gets from a run what it gets from the same weights through its own backend."""

import json
import os

import numpy as np
import pytest

from gptjax import trained
from gptjax.config import ConfigError
from gptjax.interop import adopt
from gptjax.judging import harnessed

pytest.importorskip("lm_eval")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

os.environ["HF_HUB_OFFLINE"] = "1"
WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "ate",
    "its",
    "red",
    "fish",
    "while",
    "dogs",
    "ran",
    "in",
    "rain",
)
TASKS = {
    "choices": """
output_type: multiple_choice
doc_to_text: "Say {{context}} "
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "last_word": """
output_type: loglikelihood
doc_to_text: "{{context}}"
doc_to_target: " {{choices[0]}}"
metric_list: [{metric: acc}, {metric: perplexity}]
""",
    "rolling": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "written": """
output_type: generate_until
doc_to_text: "{{context}}"
doc_to_target: "{{choices[1]}}"
generation_kwargs: {until: [" ", "\\n"], max_gen_toks: 12}
metric_list: [{metric: exact_match}]
""",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder made by transformers, a run made of it, and tasks: folder/, run/, tasks/."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    home = tmp_path_factory.mktemp("harness")
    draws = np.random.default_rng(0)

    def words(count):
        return " ".join(draws.choice(WORDS, count))

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = [words(50) for _ in range(20)]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    library.train_from_iterator(texts, trainer)
    end = "<|endoftext|>"
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=library, bos_token=end, eos_token=end)
    tokenizer.save_pretrained(home / "folder")
    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 48, "vocab_size": len(tokenizer)}
    config = transformers.GPT2Config(**sizes, initializer_range=0.3, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).eval().save_pretrained(home / "folder")
    adopt.adopt(home / "folder", home / "run", lambda line: None)
    (home / "tasks").mkdir()
    rows = []
    for count in range(1, 13):  # the last of them do not fit
        choices = [words(n) for n in draws.integers(1, 4, draws.integers(2, 5))]
        rows.append({"context": words(4 * count), "choices": choices, "answer": 0, "text": words(10 * count)})
    data = home / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, body in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
        (home / "tasks" / f"{name}.yaml").write_text(head + body)
    return home


@pytest.fixture(scope="module")
def both(home):
    """Our backend and the harness's, of the same weights."""
    from lm_eval.models.huggingface import HFLM

    from gptjax.evals.harness import Backend

    found = trained.load(home / "run", lambda line: None)
    ours = Backend(found.model, found.params["model"], found.tokenizer, tokens=512, seed=0)
    return ours, HFLM(pretrained=str(home / "folder"), device="cpu", batch_size=4)


def instances(kind, arguments):
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=one, idx=n) for n, one in enumerate(arguments)]


def test_log_likelihoods_are_those_of_the_harness_own_backend(both):
    pairs = [
        ("the cat", " sat"),
        ("the cat ", "sat"),  # the space belongs to what follows
        ("the cat", " sat on a mat"),
        ("the cat", "s"),
        ("", "the cat"),
        ("", "<|endoftext|>"[:3]),
        ("a " * 60, "mat and"),  # does not fit
        ("caté 漢\n", "字"),
    ]
    ours, theirs = (lm.loglikelihood(instances("loglikelihood", pairs)) for lm in both)
    np.testing.assert_allclose([nats for nats, _ in ours], [nats for nats, _ in theirs], rtol=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert both[0].cut == 1


def test_texts_longer_than_the_context_are_read_in_the_same_windows(both):
    texts = [("the cat sat " * 40,), ("a mat",), ("",)]
    ours, theirs = (lm.loglikelihood_rolling(instances("loglikelihood_rolling", texts)) for lm in both)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_greedy_texts_are_the_same_up_to_the_stop_string(both):
    contexts = ["the cat", "dogs ran to some", "in rain", "a", "its red fish while " * 8]
    free = [(context, {"until": [], "max_gen_toks": 40}) for context in contexts]
    whole, theirs = (lm.generate_until(instances("generate_until", free)) for lm in both)
    assert whole == theirs
    stops = [whole[0][20:22], whole[3][30:33]]
    asked = [(context, {"until": list(stops), "max_gen_toks": 40, "do_sample": False}) for context in contexts]
    ours, theirs = (lm.generate_until(instances("generate_until", asked)) for lm in both)
    assert ours == theirs
    assert ours == [min((text.split(stop)[0] for stop in stops), key=len) for text in whole]
    assert ours != whole


def test_drawn_texts_repeat_by_seed_and_no_call_repeats_another_and_unknown_settings_are_refused(both):
    asked = [("the cat", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 10})]

    def drawn(seed):
        found = both[0]
        fresh = type(found)(found.model, found.params, found.codec, tokens=512, seed=seed)
        return [fresh.generate_until(instances("generate_until", asked)) for _ in range(2)]

    one, next_call = drawn(0)
    assert drawn(0) == [one, next_call]
    assert next_call != one
    assert drawn(1)[0] != one
    ours = both[0]
    strange = [("the cat", {"repetition_penalty": 1.2})]
    with pytest.raises(ConfigError, match="repetition_penalty is not known"):
        ours.generate_until(instances("generate_until", strange))
    with pytest.raises(ConfigError, match=r"max_gen_toks=48 is not in 1\.\.47"):
        ours.generate_until(instances("generate_until", [("the cat", {"max_gen_toks": 48})]))


def test_tasks_give_what_they_give_through_the_harness_own_backend(home, both, capsys):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    said = []
    found = harnessed.asked(home / "run", list(TASKS), home / "tasks", None, None, said.append)
    assert capsys.readouterr().out == ""
    manager = TaskManager(include_path=str(home / "tasks"), include_defaults=False)
    theirs = simple_evaluate(both[1], tasks=list(TASKS), task_manager=manager, log_samples=False)["results"]
    assert {task["task"] for task in found["tasks"]} == set(TASKS)
    for task in found["tasks"]:
        assert task["examples"] == 12
        metrics = {name: one for name, one in task.items() if name not in ("task", "examples")}
        assert metrics
        for name, one in metrics.items():
            assert one["value"] == pytest.approx(theirs[task["task"]][f"{name},none"], rel=1e-4)
    assert any("did not fit" in line for line in said)
    assert found["requests"] > 12 * 4


def test_a_name_that_the_harness_does_not_know_is_refused(home):
    with pytest.raises(ConfigError, match="--tasks nowhere: is not among"):
        harnessed.asked(home / "run", ["nowhere"], home / "tasks", None, None, print)
