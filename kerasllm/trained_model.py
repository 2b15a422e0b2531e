"""A trained model in Python: its metrics and its methods."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from kerasllm.data.tables import as_files
from kerasllm.errors import CommandError, RunError, worded_for_python
from kerasllm.json_files import parse_json
from kerasllm.workflows.python_inputs import (
    Conversation,
    Generation,
    checked_prompt,
    inputs_of,
)
from kerasllm.workflows.trained import KeptOpen, Trained

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from kerasllm.explain import Explanation
    from kerasllm.recipe import WholeRecipe
    from kerasllm.workflows.export import Exported
    from kerasllm.workflows.notebook_report import Metrics


class TrainedModel:
    """A trained model: that of a run directory, or a preset of a language model.

    `kerasllm.finetune` returns one, and `kerasllm.load` opens one. Its model is loaded once, on
    first use; its methods correspond to the commands of the same names, with the same results.

    Args:
        trained: The result of `kerasllm.workflows.trained.open_trained`.

    Attributes:
        path: The run directory; `None` for a preset.
        recipe: The recipe that it was trained with; `None` for a preset.

    Example:

    ```python
    run = kerasllm.load("my_run")
    run.predict(["A film to remember."])[0]["label"]
    run.evaluate("test.csv")["accuracy"]
    run.history().plot(x="step", y="loss")
    ```
    """

    def __init__(self, trained: Trained):
        self._trained = KeptOpen(trained.source, trained.run, trained.recipe, trained.task)
        self.path: Path | None = trained.run.path if trained.run else None
        self.recipe: WholeRecipe | None = trained.recipe

    @property
    def model(self) -> keras.Model:
        """The Keras model, loaded on first use."""
        with worded_for_python():
            return self._trained.model

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics on `train`, `validation` and `test`, and the `timing`."""
        with worded_for_python():
            return self._run.read_metrics()

    @overload
    def history(self, *, as_dicts: Literal[False] = False) -> pd.DataFrame: ...

    @overload
    def history(self, *, as_dicts: Literal[True]) -> list[dict[str, Any]]: ...

    def history(self, *, as_dicts: bool = False) -> pd.DataFrame | list[dict[str, Any]]:
        """Returns the training log: one row per logged step.

        Args:
            as_dicts: Whether a list of dicts is returned rather than a pandas DataFrame. Defaults
                to `False`.

        Returns:
            Columns `step`, `epoch`, `loss`, the metrics, `learning_rate` and others; validation
            metrics are called `val_loss` and so on.

        Raises:
            CommandError: If a DataFrame is requested and pandas is not installed.
        """
        log = self._run.metrics_log
        if not log.is_file():
            raise RunError("The run has no log of its training", where=str(log))
        rows: dict[int, dict[str, Any]] = {}
        for line in log.read_text(encoding="utf-8").splitlines():
            try:
                row = dict(parse_json(line))
                row["step"]
            except (ValueError, TypeError, KeyError):
                raise RunError("The log of its training is damaged", where=str(log)) from None
            measured = row.pop("validation", {})
            row |= {f"val_{name}": value for name, value in measured.items()}
            rows.setdefault(row["step"], {}).update(row)
        if as_dicts:
            return list(rows.values())
        try:
            import pandas as pd
        except ImportError:
            raise CommandError(
                "A history as a DataFrame needs pandas, which is not installed",
                fix="pip install pandas, or call history(as_dicts=True)",
            ) from None
        return pd.DataFrame(list(rows.values()))

    def predict(
        self,
        texts: Any,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        abstain_below: float | None = None,
    ) -> list[dict[str, Any]]:
        """Predicts for texts.

        Args:
            texts: A text, or texts as a list, a NumPy array or a pandas Series; where the model
                reads two texts, tuples of two. Or a table with a column of texts, as for
                `kerasllm.finetune`; or a file, as a `pathlib.Path`.
            text: Column of the texts of a table. Defaults to `None`: the recipe's.
            text_pair: Column of the second texts of a table. Defaults to `None`: the recipe's.
            abstain_below: The probability below which no label is given. Defaults to `None`: the
                most probable label is given.

        Returns:
            For each text, in the order given, the prediction of the task; for a classifier
            `{"text": ..., "label": ..., "probabilities": {label: probability}}`.

        Raises:
            KerasllmError: If the model cannot predict, or a text is refused.

        Example:

        ```python
        run.predict(["A film to remember.", "A film to forget."])
        pd.DataFrame(run.predict(df, text="review"))["label"]
        ```
        """
        from kerasllm.tasks.task import PredictOptions
        from kerasllm.workflows.predict import predict

        options = PredictOptions(text=text, text_pair=text_pair, abstain_below=abstain_below)
        with worded_for_python():
            for name, value in vars(options).items():
                if value is not None and name not in self._trained.task.predict_options:
                    raise CommandError(
                        f"A model of the task {self._trained.task.name} does not take it",
                        where=name,
                        fix="leave it out",
                    )
            inputs = inputs_of(self._trained, texts, options)
            return list(predict(self._trained, inputs, options=options))

    def explain(
        self,
        texts: Any,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        target: str | None = None,
        method: str = "integrated_gradients",
        baseline: str = "auto",
        steps: int | None = None,
        max_error: float = 0.01,
        checks: bool = True,
    ) -> list[Explanation]:
        """Explains which words the predictions depend on, and how much.

        Args:
            texts: Texts, as for `predict`.
            text: Column of the texts of a table. Defaults to `None`: the recipe's.
            text_pair: Column of the second texts of a table. Defaults to `None`: the recipe's.
            target: The output to explain: a label, an entity type or a next word. Defaults to
                `None`: the prediction.
            method: `"integrated_gradients"`, `"occlusion"` or `"attention"`, which is not an
                explanation. Defaults to `"integrated_gradients"`.
            baseline: Token that replaces a removed word: `"mask"`, `"pad"`, or `"auto"`, the one
                with the larger effect. Defaults to `"auto"`.
            steps: Integration steps. Defaults to `None`: until the error is small.
            max_error: The largest completeness error, relative to the total attribution.
                Defaults to `0.01`.
            checks: Whether occlusion and faithfulness are computed as well. Defaults to `True`.

        Returns:
            One explanation per explained output of each text: one for a classifier, one for each
            span.

        Raises:
            KerasllmError: If it cannot be explained, a text is refused, or scores do not add up.

        Example:

        ```python
        found = run.explain("A film to remember.")[0]
        {word.word: word.score for word in found.words}
        ```
        """
        from kerasllm.tasks.task import PredictOptions
        from kerasllm.workflows.explain import explain

        with worded_for_python():
            inputs = inputs_of(self._trained, texts, PredictOptions(text=text, text_pair=text_pair))
            options: dict[str, Any] = {
                "target": target,
                "method": method,
                "baseline": baseline,
                "steps": steps,
                "max_error": max_error,
                "checks": checks,
            }
            return list(explain(self._trained, inputs, **options))

    def evaluate(
        self,
        data: Any = None,
        *,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        stride: int | None = None,
        max_length: int | None = None,
        chat_template: str | None = None,
        template: str | None = None,
        adapter: str | Path | None = None,
        output: str | Path | None = None,
        verbose: bool = True,
    ) -> Metrics:
        """Evaluates the model on data.

        Args:
            data: Files, or a table as for `kerasllm.finetune`. Defaults to `None`: the test data of
                the run.
            text: Column of the texts. Defaults to `None`: the recipe's.
            text_pair: Column of the second texts. Defaults to `None`: the recipe's.
            label: Column of the labels. Defaults to `None`: the recipe's.
            stride: Stride of the sliding window, in tokens. Defaults to `None`: half a window.
            max_length: Maximum tokens of a window or a conversation. Defaults to `None`: the
                recipe's; 1024 for a preset.
            chat_template: The chat template for conversations. Defaults to `None`: the model's own.
            template: The prompt of a multiple-choice question. Defaults to `None`: `"Question:
                {question}\\nAnswer:"`.
            adapter: A folder with a PEFT adapter to load into a language model. Defaults to `None`.
            output: A .jsonl file for the result of each example. Defaults to `None`.
            verbose: Whether progress is shown. Defaults to `True`.

        Returns:
            The metrics by name.

        Raises:
            KerasllmError: If the data or an option is refused.

        Example:

        ```python
        run.evaluate("test.csv", text="review", label="stars")["accuracy"]
        ```
        """
        with worded_for_python():
            from kerasllm.workflows.evaluate import evaluate
            from kerasllm.workflows.notebook_report import Metrics
            from kerasllm.workflows.report import Report

            found = evaluate(
                self._trained,
                None if data is None else as_files(data),
                text=text,
                text_pair=text_pair,
                label=label,
                stride=stride,
                max_length=max_length,
                chat_template=chat_template,
                template=template,
                adapter=adapter,
                output=output,
                report=Report() if verbose else Report.silent(),
            )
            return Metrics(found, self._trained.task)

    @overload
    def generate(  # type: ignore[overload-overlap]  # a text is a sequence of texts
        self, prompts: str, **settings: Unpack[Generation]
    ) -> str: ...

    @overload
    def generate(
        self, prompts: Sequence[str] | Sequence[Conversation], **settings: Unpack[Generation]
    ) -> list[str]: ...

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[Conversation],
        *,
        max_new_tokens: int = 128,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        beams: int = 1,
        length_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        chat: bool = False,
        batch_size: int = 8,
        adapter: str | None = None,
    ) -> str | list[str]:
        """Generates text from prompts.

        Without `temperature`, `top_k`, `top_p` and `min_p`, decoding is greedy.

        Args:
            prompts: A text, or a list of texts or of conversations (lists of messages, answered by
                the chat template).
            max_new_tokens: Maximum number of tokens to generate. Defaults to `128`.
            temperature: Sampling temperature. Defaults to `None`.
            top_k: Sample from this many most likely tokens. Defaults to `None`.
            top_p: Sample from the most likely tokens up to this total probability. Defaults to
                `None`.
            min_p: Sample from tokens with this probability, relative to the most likely one.
                Defaults to `None`.
            repetition_penalty: Above 1, repetitions are less likely. Defaults to `1.0`.
            beams: Number of beams for beam search. Defaults to `1`: no beam search.
            length_penalty: Above 0, beam search favours longer texts. Defaults to `1.0`.
            stop: Texts at which generation stops. Defaults to `()`.
            seed: Seed of the sampling. Defaults to `None`: random.
            chat: Whether a text is a user's message, to be answered using the chat template.
                Defaults to `False`.
            batch_size: Prompts per batch. Defaults to `8`.
            adapter: A folder with a PEFT adapter to load into the model. Defaults to `None`.

        Returns:
            The generated text, without the prompt; for a list of prompts, a list of texts.

        Raises:
            KerasllmError: If the model does not generate text, or a prompt or a setting is refused.

        Example:

        ```python
        kerasllm.load("smollm2_135m_instruct").generate("Name three whales.", chat=True)
        ```
        """
        from kerasllm.generation.settings import GenerationSettings
        from kerasllm.workflows.generate import generate

        given = [prompts] if isinstance(prompts, str) else list(prompts)
        with worded_for_python():
            settings = GenerationSettings(
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                beams=beams,
                length_penalty=length_penalty,
                seed=secrets.randbelow(1 << 31) if seed is None else seed,
                stop=(stop,) if isinstance(stop, str) else tuple(stop),
            )
            wanted = [checked_prompt(each, f"prompt {n}") for n, each in enumerate(given)]
            made = generate(
                self._trained, wanted, settings, chat=chat, batch_size=batch_size, adapter=adapter
            )
            texts = [each["text"] for each in made]
        return texts[0] if isinstance(prompts, str) else texts

    def export(
        self,
        format: str = "saved_model",
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        precisions: Sequence[str] = (),
        rows: int | Literal["all"] | None = None,
        sign: str | Path | None = None,
        verbose: bool = True,
    ) -> Exported:
        """Exports the saved model to a format of other software, and verifies the export.

        Args:
            format: `saved_model`, `transformers`, `litert`, `onnx`, `keras` or `keras_hub`.
                Defaults to `"saved_model"`.
            output: The folder to write. Defaults to `None`: `export/FORMAT` in the run.
            overwrite: Whether to replace an existing export. Defaults to `False`.
            precisions: Precisions of the exported weights. Defaults to `()`: float32; all for
                litert.
            rows: Number of examples to compare, or `"all"`. Defaults to `None`: the task's default.
            sign: The file of a private key to sign the folder with. Defaults to `None`: it is not.
            verbose: Whether progress is shown. Defaults to `True`.

        Returns:
            The `folder`, its `files` with their sizes, and the `parity` with the model.

        Raises:
            KerasllmError: If the format or the folder is refused, or the outputs of the export
                differ from the model's.
        """
        with worded_for_python():
            from kerasllm.workflows.export import export
            from kerasllm.workflows.report import Report

            return export(
                self._trained.source,
                format,
                output=None if output is None else Path(output),
                overwrite=overwrite,
                precisions=(precisions,) if isinstance(precisions, str) else tuple(precisions),
                rows=rows,
                sign=sign,
                command="TrainedModel.export",
                report=Report() if verbose else Report.silent(),
            )

    def __repr__(self) -> str:
        return f"TrainedModel({str(self._trained.source)!r}, {', '.join(self._facts())})"

    def _repr_html_(self) -> str:
        import html

        from kerasllm.workflows.notebook_report import html_of

        facts = f"<p>{html.escape(repr(self))}</p>"
        parts = self._measured()
        tables = self._trained.task.tables(parts) if parts else []
        return facts + "".join(map(html_of, tables))

    def _facts(self) -> list[str]:
        task = self._trained.task
        facts = [f"task={task.name!r}"]
        for part, metrics in reversed(self._measured().items()):
            headline = task.headline_of(metrics).metric
            if isinstance(value := metrics.get(headline), float):
                facts.append(f"{part}_{headline}={value:.4f}")
                break
        return facts

    def _measured(self) -> dict[str, dict[str, Any]]:
        """Returns the metrics on the validation and the test data, if there are any."""
        metrics = self.metrics if self._trained.run else {}
        return {part: metrics[part] for part in ("validation", "test") if metrics.get(part)}

    @property
    def _run(self) -> Any:
        if self._trained.run is None:
            raise RunError(
                f"{self._trained.source} is a preset and has no training log",
                fix="give a run directory to kerasllm.load",
            )
        return self._trained.run
