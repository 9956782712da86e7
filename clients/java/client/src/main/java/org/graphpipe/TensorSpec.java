package org.graphpipe;

import java.util.Arrays;
import java.util.Objects;

/**
 * What a model says about one of its inputs or outputs.
 *
 * @param name the name to ask for
 * @param description text for people, maybe empty
 * @param shape elements along each dim, outermost first; -1 where it varies. Empty means a scalar,
 *     or that the server does not know.
 * @param type the element type; {@link Type#NULL} where the server does not know, or this version
 *     does not
 * @param typeNumber the number on the wire of a type that this version does not know; else 0. It is
 *     never sent.
 */
public record TensorSpec(String name, String description, long[] shape, Type type, int typeNumber) {
  /**
   * Keeps a copy of {@code shape}.
   *
   * @param name the name to ask for
   * @param description text for people
   * @param shape elements along each dim; -1 where it varies
   * @param type the element type
   * @param typeNumber the number of a type that is not known, or 0
   * @throws IllegalArgumentException if {@code shape} has more than 32 dims or one below -1
   */
  public TensorSpec {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(description, "description");
    Objects.requireNonNull(type, "type");
    shape = shape.clone();
    if (shape.length > Limits.DIMS_MAX) {
      throw new IllegalArgumentException(
          "expected at most " + Limits.DIMS_MAX + " dims, got " + shape.length);
    }
    for (long dim : shape) {
      if (dim < -1) {
        throw new IllegalArgumentException("dim of length " + dim + " in the shape of " + name);
      }
    }
  }

  /**
   * An input or output of a known type, or of none.
   *
   * @param name the name to ask for
   * @param description text for people
   * @param shape elements along each dim; -1 where it varies
   * @param type the element type
   * @throws IllegalArgumentException if {@code shape} has more than 32 dims or one below -1
   */
  public TensorSpec(String name, String description, long[] shape, Type type) {
    this(name, description, shape, type, 0);
  }

  /**
   * The shape.
   *
   * @return a copy
   */
  @Override
  public long[] shape() {
    return shape.clone();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof TensorSpec spec
        && name.equals(spec.name)
        && description.equals(spec.description)
        && Arrays.equals(shape, spec.shape)
        && type == spec.type
        && typeNumber == spec.typeNumber;
  }

  @Override
  public int hashCode() {
    return Objects.hash(name, description, Arrays.hashCode(shape), type, typeNumber);
  }

  @Override
  public String toString() {
    return name + ": " + type + Arrays.toString(shape);
  }
}
