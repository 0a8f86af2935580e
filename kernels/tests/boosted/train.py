"""Trains the models in this folder and writes down what their frameworks answer.

    python3 -m venv venv && venv/bin/pip install numpy==2.* pandas==2.* scipy==1.* scikit-learn==1.9.1 \
        xgboost-cpu==3.2.0 lightgbm==4.7.0 && venv/bin/python train.py

The cases `xgb_2_*` are of an earlier version: the same with xgboost-cpu==2.1.4 writes them alone.

`CASE.ubj`, `CASE.json` (XGBoost) or `CASE.txt` (LightGBM) is the model as the framework saves it;
`CASE.answers` is {"predictor", "inputs": {name: tensor}, "outputs": {"predictions": tensor}} with
tensors as {"dtype", "shape", "data"}, NaN as null. The seeds are fixed. The rows that are asked hold
NaN, categories that the training data did not have, fractions where categories are, and numbers at
and next to zero.
"""

import json
import warnings
from pathlib import Path

import lightgbm
import numpy as np
import pandas
import xgboost

HERE = Path(__file__).parent
ROUNDS = 4
warnings.filterwarnings("ignore")
random = np.random.default_rng(20260201)


def table(rows, unseen=False):
    """Four numbers, of which one is often 0, and a category from 0 to 5."""
    numbers = random.normal(size=(rows, 4))
    numbers[:, 1] *= 100
    numbers[random.random(rows) < 0.4, 2] = 0
    category = random.integers(0, 6, rows).astype(float)
    features = np.column_stack([numbers, category])
    features[random.random(features.shape) < 0.1] = np.nan
    if unseen:
        features[:6, 4] = [9, -1, 2.5, -0.5, 1e9, 40]
        features[6:9, 2] = [1e-36, -1e-36, 1e-30]
    return features


X = table(240)
ASK = table(24, unseen=True)
FILLED = np.nan_to_num(X)
SIGNAL = FILLED[:, 0] + FILLED[:, 1] / 80 + (FILLED[:, 2] > 0) + np.isin(FILLED[:, 4], [1, 4]) * 1.5
NOISY = SIGNAL + random.normal(scale=0.3, size=len(X))
POSITIVE = np.exp(NOISY / 2)
BINARY = (NOISY > 0.5).astype(int)
CLASSES = np.digitize(NOISY, [0, 1.2])
COUNTS = random.poisson(POSITIVE)
GROUPS = [24] * 10
RELEVANCE = np.digitize(NOISY, [-0.5, 0.5, 1.5])


def tensor(values):
    values = np.asarray(values)
    if values.dtype == object or values.dtype.kind in "UOS":
        return {"dtype": "string", "shape": list(values.shape), "data": values.ravel().tolist()}
    digits = 9 if values.dtype == np.float32 else 17
    data = [
        None if value != value else (value if isinstance(value, int) else float(f"{value:.{digits}g}"))
        for value in values.ravel().tolist()
    ]
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}


def record(name, predictor, inputs, answer):
    answer = np.asarray(answer)
    document = {
        "predictor": predictor,
        "inputs": {key: tensor(value) for key, value in inputs.items()},
        "outputs": {"predictions": tensor(answer)},
    }
    (HERE / f"{name}.answers").write_text(json.dumps(document, separators=(",", ":")) + "\n")
    print(name, answer.dtype, answer.shape)


def xgb(name, params, label, ending="ubj", rounds=ROUNDS, group=None, ask=ASK, features=X, **data):
    """Trains a booster and records what its `predict` answers."""
    params = {"max_depth": 3, "nthread": 1, "seed": 1, "tree_method": "hist", **params}
    kind = {key: data.pop(key) for key in ("feature_types", "feature_names") if key in data}
    train = xgboost.DMatrix(features, label, **kind, **data)
    if group is not None:
        train.set_group(group)
    booster = xgboost.train(params, train, rounds)
    booster.save_model(HERE / f"{name}.{ending}")
    record(name, "booster", {"features": ask}, booster.predict(xgboost.DMatrix(ask, **kind)))
    return booster


def xgboost_objectives():
    xgb("xgb_squarederror", {"objective": "reg:squarederror"}, NOISY, "json")
    xgb("xgb_squaredlogerror", {"objective": "reg:squaredlogerror"}, POSITIVE)
    xgb("xgb_reg_logistic", {"objective": "reg:logistic"}, 1 / (1 + np.exp(-NOISY)))
    xgb("xgb_pseudohuber", {"objective": "reg:pseudohubererror"}, NOISY)
    xgb("xgb_absoluteerror", {"objective": "reg:absoluteerror"}, NOISY)
    xgb("xgb_quantile", {"objective": "reg:quantileerror", "quantile_alpha": 0.3}, NOISY)
    alphas = {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9]}
    xgb("xgb_quantiles", alphas, NOISY)
    xgb("xgb_logistic", {"objective": "binary:logistic"}, BINARY)
    xgb("xgb_logitraw", {"objective": "binary:logitraw", "base_score": 0.3}, BINARY)
    xgb("xgb_hinge", {"objective": "binary:hinge"}, BINARY)
    xgb("xgb_poisson", {"objective": "count:poisson"}, COUNTS)
    xgb("xgb_cox", {"objective": "survival:cox"}, POSITIVE)
    low, high = POSITIVE * 0.9, POSITIVE * 1.1
    aft = {"objective": "survival:aft"}
    xgb("xgb_aft", aft, None, label_lower_bound=low, label_upper_bound=high)
    xgb("xgb_gamma", {"objective": "reg:gamma"}, POSITIVE)
    xgb("xgb_tweedie", {"objective": "reg:tweedie"}, COUNTS)
    xgb("xgb_softmax", {"objective": "multi:softmax", "num_class": 3}, CLASSES)
    xgb("xgb_softprob", {"objective": "multi:softprob", "num_class": 3}, CLASSES, "json")
    for objective in ("pairwise", "ndcg", "map"):
        label = RELEVANCE > 1 if objective == "map" else RELEVANCE
        xgb(f"xgb_rank_{objective}", {"objective": f"rank:{objective}"}, label, group=GROUPS)


def xgboost_boosters():
    logistic = {"objective": "binary:logistic"}
    drops = {"booster": "dart", "rate_drop": 0.5, "one_drop": 1}
    xgb("xgb_dart", {**logistic, **drops}, BINARY, rounds=6)
    softprob = {"objective": "multi:softprob", "num_class": 3}
    xgb("xgb_dart_classes", {**softprob, **drops}, CLASSES, "json")
    linear = {"booster": "gblinear", "updater": "coord_descent", "tree_method": "auto"}
    xgb("xgb_linear", {"objective": "reg:squarederror", **linear}, NOISY, "json")
    xgb("xgb_linear_classes", {**softprob, **linear}, CLASSES)
    forest = {"num_parallel_tree": 3, "subsample": 0.6, "colsample_bynode": 0.7}
    xgb("xgb_forest", {**softprob, **forest}, CLASSES, rounds=2)
    xgb("xgb_base_score", {"objective": "reg:gamma", "base_score": 2.5}, POSITIVE)
    names = ["income", "age", "debt", "years", "kind"]
    xgb("xgb_named", logistic, BINARY, feature_names=names)
    zero = table(24, unseen=True)
    xgb("xgb_stump", {**logistic, "max_depth": 1, "gamma": 1e9}, BINARY, ask=zero)
    pruned = {"objective": "reg:squarederror", "tree_method": "exact", "gamma": 3.0, "max_depth": 4}
    xgb("xgb_pruned", pruned, NOISY, "json")
    kinds = ["q", "q", "q", "q", "c"]
    for name, most in (("xgb_category_sets", 1), ("xgb_category_each", 100)):
        params = {**logistic, "max_cat_to_onehot": most, "max_depth": 4}
        valid = ASK.copy()
        xgb(name, params, BINARY, feature_types=kinds, ask=valid)


def xgboost_targets():
    two = np.column_stack([NOISY, -NOISY + FILLED[:, 3]])
    each = {"objective": "reg:squarederror", "multi_strategy": "one_output_per_tree"}
    xgb("xgb_targets", each, two)
    vector = {**each, "multi_strategy": "multi_output_tree"}
    xgb("xgb_target_vectors", vector, two, "json")
    xgb("xgb_target_vectors_ubj", vector, two)
    xgb("xgb_target_vectors_adaptive", {**vector, "objective": "reg:absoluteerror"}, two)


def xgboost_estimators():
    common = {"n_estimators": 12, "max_depth": 3, "n_jobs": 1, "random_state": 1, "learning_rate": 1.0}
    train, test = slice(0, 120), slice(120, 240)
    for name, predictor, make, label in (
        ("xgb_classifier", "classifier", xgboost.XGBClassifier, BINARY),
        ("xgb_classifier_classes", "classifier", xgboost.XGBClassifier, CLASSES),
        ("xgb_regressor", "estimator", xgboost.XGBRegressor, NOISY),
    ):
        model = make(**common, early_stopping_rounds=2)
        model.fit(X[train], label[train], eval_set=[(X[test], label[test])], verbose=False)
        assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
        model.save_model(HERE / f"{name}.ubj")
        record(name, predictor, {"features": ASK}, model.predict(ASK))
        model.save_model(HERE / f"{name}_as_booster.ubj")
        every = model.get_booster().predict(xgboost.DMatrix(ASK))
        record(f"{name}_as_booster", "booster", {"features": ASK}, every)
    small = {**common, "n_estimators": 3}
    softmax = xgboost.XGBClassifier(**small, objective="multi:softmax").fit(X, CLASSES)
    softmax.save_model(HERE / "xgb_classifier_softmax.json")
    record("xgb_classifier_softmax", "classifier", {"features": ASK}, softmax.predict(ASK))
    labels = np.column_stack([BINARY, NOISY > 1, FILLED[:, 3] > 0]).astype(int)
    several = xgboost.XGBClassifier(**small).fit(X, labels)
    several.save_model(HERE / "xgb_classifier_labels.ubj")
    record("xgb_classifier_labels", "classifier", {"features": ASK}, several.predict(ASK))
    ranker = xgboost.XGBRanker(**small).fit(X, RELEVANCE, group=GROUPS)
    ranker.save_model(HERE / "xgb_ranker.ubj")
    record("xgb_ranker", "estimator", {"features": ASK}, ranker.predict(ASK))


def frames(words, unseen):
    """The table with words for the category, and numbers that are no positions for another one."""
    def frame(features, words, numbers):
        kind = pandas.Series([None if x != x or not 0 <= x < 6 or x % 1 else words[int(x)] for x in features[:, 4]])
        level = pandas.Series([None if x != x else int(abs(x) * 3) % 4 * 10 for x in features[:, 3]])
        return pandas.DataFrame({
            "a": features[:, 0],
            "kind": pandas.Categorical(kind, categories=words),
            "level": pandas.Categorical(level.astype("Int64"), categories=numbers),
            "d": features[:, 2],
        })

    train = frame(X, words, [0, 10, 20, 30])
    ask = frame(ASK, words, [0, 10, 20, 30])
    kinds, levels = ask["kind"].astype(object), ask["level"].astype(object)
    if unseen:
        kinds[:2], levels[:2] = ["unheard of", "AMBER"], [7, 40]
    inputs = {
        "a": ask[["a"]].to_numpy(float),
        "kind": kinds.where(kinds.notna(), "").to_numpy().reshape(-1, 1),
        "level": levels.where(levels.notna(), np.nan).to_numpy(float).reshape(-1, 1),
        "d": ask[["d"]].to_numpy(float),
    }
    if unseen:
        ask["kind"] = pandas.Categorical(kinds, categories=[*words, "unheard of", "AMBER"])
        ask["level"] = pandas.Categorical(levels.astype("Int64"), categories=[0, 7, 10, 20, 30, 40])
    return train, ask, inputs


def frameworks_with_frames():
    words = ["amber", "blue", "cyan", "dark red", "ecru"]
    train, ask, inputs = frames([*words, "grey"], unseen=False)
    params = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "max_cat_to_onehot": 1}
    data = xgboost.DMatrix(train, BINARY, enable_categorical=True)
    for ending in ("ubj", "json"):
        booster = xgboost.train(params, data, ROUNDS)
        booster.save_model(HERE / f"xgb_words_{ending}.{ending}")
        answer = booster.predict(xgboost.DMatrix(ask, enable_categorical=True))
        record(f"xgb_words_{ending}", "booster", inputs, answer)
    numbers = ["a", "level", "d"]
    booster = xgboost.train(params, xgboost.DMatrix(train[numbers], BINARY, enable_categorical=True), ROUNDS)
    booster.save_model(HERE / "xgb_levels.ubj")
    matrix = np.column_stack([inputs[name] for name in numbers])
    answer = booster.predict(xgboost.DMatrix(ask[numbers], enable_categorical=True))
    record("xgb_levels", "booster", {"features": matrix}, answer)

    train, ask, inputs = frames([*words, "größe"], unseen=True)
    booster = light("lgb_words", CATEGORICAL, BINARY, features=train, ask=None)
    record("lgb_words", "booster", inputs, booster.predict(ask))
    booster = light("lgb_levels", CATEGORICAL, BINARY, features=train[numbers], ask=None)
    matrix = np.column_stack([inputs[name] for name in numbers])
    record("lgb_levels", "booster", {"features": matrix}, booster.predict(ask[numbers]))

    # Category 0 decides, so that -0.5, which is 0 to LightGBM, tells how fractions are cut.
    rows = np.nan_to_num(ASK)
    rows[:, 4] = np.resize([0, -0.5, -1, 0.9, 1, 1.9], len(rows))
    zero = (X[:, 4] == 0).astype(int)
    booster = light("lgb_fractions", CATEGORICAL, zero, ask=rows, categorical_feature=[4])
    halves, wholes = booster.predict(rows[1::6]), booster.predict(rows[2::6])
    assert abs(halves - wholes).min() > 1e-3


CATEGORICAL = {"objective": "binary", "max_cat_to_onehot": 1, "cat_l2": 0.1}


def light(name, params, label, rounds=ROUNDS, group=None, ask=ASK, features=X, **data):
    """Trains a booster and records what its `predict` answers."""
    params = {
        "num_leaves": 6, "min_data_in_leaf": 5, "min_data_per_group": 3, "cat_smooth": 1, "num_threads": 1,
        "seed": 1, "verbose": -1, "deterministic": True, **params,
    }
    train = lightgbm.Dataset(features, label, group=group, **data)
    booster = lightgbm.train(params, train, rounds)
    booster.save_model(HERE / f"{name}.txt")
    if params.get("cat_l2"):
        assert "cat_boundaries" in booster.model_to_string()
    if ask is not None:
        record(name, "booster", {"features": ask}, booster.predict(ask))
    return booster


def lightgbm_objectives():
    light("lgb_regression", {"objective": "regression"}, NOISY)
    light("lgb_sqrt", {"objective": "regression", "reg_sqrt": True}, NOISY * 3)
    for objective in ("regression_l1", "huber", "fair", "quantile", "mape"):
        light(f"lgb_{objective}", {"objective": objective, "alpha": 0.7}, NOISY)
    for objective, label in (("poisson", COUNTS), ("gamma", POSITIVE), ("tweedie", COUNTS)):
        light(f"lgb_{objective}", {"objective": objective}, label)
    light("lgb_binary", {"objective": "binary", "sigmoid": 2.0}, BINARY)
    light("lgb_multiclass", {"objective": "multiclass", "num_class": 3}, CLASSES)
    ova = {"objective": "multiclassova", "num_class": 3, "sigmoid": 0.7}
    light("lgb_multiclassova", ova, CLASSES)
    light("lgb_cross_entropy", {"objective": "cross_entropy"}, 1 / (1 + np.exp(-NOISY)))
    light("lgb_cross_entropy_lambda", {"objective": "cross_entropy_lambda"}, 1 / (1 + np.exp(-NOISY)))
    for objective in ("lambdarank", "rank_xendcg"):
        light(f"lgb_{objective}", {"objective": objective}, RELEVANCE, group=GROUPS)
    light("lgb_custom", {"objective": lambda guess, data: (guess - data.get_label(), np.ones_like(guess))}, NOISY)


def lightgbm_boosters():
    binary = {"objective": "binary"}
    light("lgb_dart", {**binary, "boosting": "dart", "drop_rate": 0.5}, BINARY, rounds=6)
    light("lgb_goss", {**binary, "data_sample_strategy": "goss", "learning_rate": 0.5}, BINARY)
    forest = {"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1}
    light("lgb_forest", {**binary, **forest}, BINARY)
    light("lgb_forest_values", {"objective": "regression", **forest}, NOISY)
    light("lgb_forest_classes", {"objective": "multiclass", "num_class": 3, **forest}, CLASSES)
    light("lgb_categories", CATEGORICAL, BINARY, categorical_feature=[4])
    light("lgb_zeros_missing", {**binary, "zero_as_missing": True}, BINARY)
    light("lgb_nothing_missing", {**CATEGORICAL, "use_missing": False}, BINARY, categorical_feature=[4])
    light("lgb_leaf", {"objective": "regression", "min_data_in_leaf": 1000}, NOISY)
    named = pandas.DataFrame(X, columns=["income", "age", "debt", "years", "kind of it"])
    light("lgb_named", binary, BINARY, features=named)


def lightgbm_estimators():
    common = {"n_estimators": 4, "num_leaves": 6, "n_jobs": 1, "random_state": 1, "verbose": -1}
    for name, label in (("lgb_classifier", BINARY), ("lgb_classifier_classes", CLASSES)):
        model = lightgbm.LGBMClassifier(**common).fit(X, label)
        model.booster_.save_model(HERE / f"{name}.txt")
        record(name, "classifier", {"features": ASK}, model.predict(ASK))
    linear = {"objective": "regression", "linear_tree": True, "verbose": -1, "num_leaves": 4}
    booster = lightgbm.train(linear, lightgbm.Dataset(FILLED, NOISY), 2)
    booster.save_model(HERE / "refused_linear.txt")


def earlier_version():
    """What changed since: base scores are one number, leaves with several weights keep all nodes'."""
    xgb("xgb_2_softprob", {"objective": "multi:softprob", "num_class": 3}, CLASSES, "json")
    xgb("xgb_2_logitraw", {"objective": "binary:logitraw", "base_score": 0.3}, BINARY)
    xgb("xgb_2_gamma", {"objective": "reg:gamma"}, POSITIVE)
    two = np.column_stack([NOISY, -NOISY + FILLED[:, 3]])
    vector = {"objective": "reg:squarederror", "multi_strategy": "multi_output_tree"}
    xgb("xgb_2_target_vectors", vector, two)
    kinds = ["q", "q", "q", "q", "c"]
    params = {"objective": "binary:logistic", "max_cat_to_onehot": 1, "max_depth": 4}
    xgb("xgb_2_category_sets", params, BINARY, feature_types=kinds)
    softprob = {"objective": "multi:softprob", "num_class": 3, "booster": "gblinear"}
    xgb("xgb_2_linear", {**softprob, "updater": "coord_descent", "tree_method": "auto"}, CLASSES)


if xgboost.__version__.startswith("2."):
    earlier_version()
else:
    xgboost_objectives()
    xgboost_boosters()
    xgboost_targets()
    xgboost_estimators()
    lightgbm_objectives()
    lightgbm_boosters()
    lightgbm_estimators()
    frameworks_with_frames()
