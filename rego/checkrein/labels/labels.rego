# METADATA
# title: What data is classified as
# description: "`data.classification[resource][dataset][field] = [labels]`, one shape for every protocol."
package checkrein.labels

# METADATA
# description: Datasets of this resource of which anything is classified.
datasets contains dataset if some dataset, _ in data.classification[input.resource.id]

# METADATA
# description: Somebody has said what this resource holds, and be it nothing that needs a label.
classified if is_object(data.classification[input.resource.id])

# METADATA
# description: The fields of these datasets that carry the label.
fields(of, label) := {{"dataset": dataset, "field": field} |
	some dataset in of
	some field, labels in data.classification[input.resource.id][dataset]
	label in labels
}

# METADATA
# description: Somebody has said what the field is.
known(dataset, field) if count(data.classification[input.resource.id][dataset][field]) > 0
