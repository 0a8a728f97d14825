"""Classification metrics in NumPy, with scikit-learn's definitions.

Three kinds by what they look at: predicted labels (`classification`), the order of scores (`ranking`) and the values of
probabilities (`probabilities`). Arguments come in scikit-learn's order: truth first. What can be summed up batch by
batch has a class with `update`, `compute` and `reset`.
"""

from engine.metrics.classification import (
    ConfusionMatrix as ConfusionMatrix,
    Scores as Scores,
    TopKAccuracy as TopKAccuracy,
    accuracy as accuracy,
    balanced_accuracy as balanced_accuracy,
    classification_report as classification_report,
    confusion_matrix as confusion_matrix,
    f1 as f1,
    f_beta as f_beta,
    most_confused as most_confused,
    precision as precision,
    precision_recall_f1 as precision_recall_f1,
    recall as recall,
    top_k_accuracy as top_k_accuracy,
)
from engine.metrics.probabilities import (
    Calibration as Calibration,
    CalibrationError as CalibrationError,
    LogLoss as LogLoss,
    calibration_curve as calibration_curve,
    expected_calibration_error as expected_calibration_error,
    log_loss as log_loss,
    sample_losses as sample_losses,
)
from engine.metrics.ranking import (
    PrecisionRecallCurve as PrecisionRecallCurve,
    Ranking as Ranking,
    RankingScores as RankingScores,
    RocCurve as RocCurve,
    average_precision as average_precision,
    precision_recall_curve as precision_recall_curve,
    roc_auc as roc_auc,
    roc_curve as roc_curve,
)
